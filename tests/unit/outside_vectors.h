/* outside_vectors.h - tokens and keys: those of RFC 7515 (A.2, A.3), and ID tokens that python-cryptography signed. */
#pragma once

static const char rfc_keys[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgN"
    "MsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5"
    "IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"},{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1"
    "Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
static const char rfc_rs256[] =
    "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzER"
    "at0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb"
    "1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlU"
    "PQGe77Rw";
static const char rfc_es256[] =
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4"
    "GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

static const char keys[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"r1\",\"alg\":\"RS256\",\"use\":\"sig\",\"n\":\"6z_1U8j3JqE5WaU0tycqGnzYBX6Slat5H2ZzgCpwQ8jvQELknwiBHn9FCwzUazH_E"
    "ddqIxa7qOTLTBHl1M50CTT4yIyYZ7LSUCcNe7hrS9eZZhQdKU0lfDAfoy-HlUQpdOwEKw7Gc5QgGnV2wMsP0QgqhMQe9NfBv7NduqQqhKC8JqOnSQ4CgBOqLmjsok8pMS0auTXl75_ypjF0ZaRKWlX"
    "6GjuBK8iqD4DzFwK6YHnGJ_vU6XygjIDrXbGlciuZ8kQ1qFY5P1t28vxKN8FDCTIUtpe-Q1TJAZvCuEUWKVZETIoPCSyN7UcOaCX59e87m_DNtA7ifhOkWL_did527w\",\"e\":\"AQAB\"},{\"k"
    "ty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e1\",\"use\":\"sig\",\"x\":\"MYPkwUi0cDKe5yoP7pr3zR7Zg2vZ5-ke6FSXtJqq3GA\",\"y\":\"ivQYIiMz4BmBZWw8S-TyHRFzr77"
    "RCU_biTYQ6lODzu4\"}]}";
static const char rs256[] =
    "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogInIxIn0.eyJpc3MiOiAiaHR0cHM6Ly9hY2NvdW50cy5leGFtcGxlIiwgImF1ZCI6ICJwb3JjaCIsICJzdWIiOiAic29tZW9uZSIsICJleHAiOiAxNzkwMD"
    "AwNjAwLCAiaWF0IjogMTc5MDAwMDAwMCwgIm5vbmNlIjogIm4tMFM2X1d6QTJNaiIsICJlbWFpbCI6ICJhQGIuZXhhbXBsZSJ9.6gfKFyPn1b9z2brvNZZG2FmcpYt6alBsOAL2J1n30grfYDIDKDh"
    "7NtuMzEyIzdjP4bFa6Mb1W-3sL2a0EbGQzOZ9PdceR2HFvFS7VQf-SbNneoOM3rx_I-sjwmbiO5iS8uiitYtIr_peps0B8nVygaXb_9Nuf96h-z6YLHhgiLqdxlQZpdG_boIVkmRWnnzyqZ8Xtsvpt"
    "LNv6IpAHwB3LDLo4vOmBdU94X4-Ganra-lJGwU6afVeQ7AqXI3Pn6JTASoZLMbuqLTjVpvnM2vOyMEC5liEJjfFjsYamq22jhri7Zs3l3MDiqIF81uOWnEwGPaxVQH_kOJTUj1dYwArPw";
static const char es256[] =
    "eyJhbGciOiAiRVMyNTYiLCAia2lkIjogImUxIn0.eyJpc3MiOiAiaHR0cHM6Ly9hY2NvdW50cy5leGFtcGxlIiwgImF1ZCI6ICJwb3JjaCIsICJzdWIiOiAic29tZW9uZSIsICJleHAiOiAxNzkwMD"
    "AwNjAwLCAiaWF0IjogMTc5MDAwMDAwMCwgIm5vbmNlIjogIm4tMFM2X1d6QTJNaiIsICJlbWFpbCI6ICJhQGIuZXhhbXBsZSJ9.PdTi2b_60z46UdIg45iDEwOQZ-TqzbSgDtDUqMAMo83MZ7mKajU"
    "2ge0OEQzIuY9v75_wdIDB-RljI78r0B5Ppw";
/* 1024 bits. */
static const char small_keys[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"kid\":\"s1\",\"alg\":\"RS256\",\"use\":\"sig\",\"n\":\"tjGPuNyDArQatpqmOGPcKP-5AYxx0DM_dUYxiWwZyg-t0C2FGWzUTMy-RQOglBVUi"
    "gzKLbWHEsNF5BGROu_ZgeqNiRNoSYCuzhIk-eZLHfeAoxJEfBwvNoWnGdlhwW8JZNpRsrS7FwK8Pn1RHETVMRDd7dzQFTWKGj8b2sGQO_M\",\"e\":\"AQAB\"}]}";
static const char small_rs256[] =
    "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogInMxIn0.eyJpc3MiOiAiaHR0cHM6Ly9hY2NvdW50cy5leGFtcGxlIiwgImF1ZCI6ICJwb3JjaCIsICJzdWIiOiAic29tZW9uZSIsICJleHAiOiAxNzkwMD"
    "AwNjAwLCAiaWF0IjogMTc5MDAwMDAwMCwgIm5vbmNlIjogIm4tMFM2X1d6QTJNaiIsICJlbWFpbCI6ICJhQGIuZXhhbXBsZSJ9.RjOihSDyFbdi6Ia5wUVFHn7FcufS4JdO1HPsvY9hUhaNIJlAsau"
    "OMwfd7FXU4a3prdcwHz-iKPphUTIWay8F5sv42HEPeKRnuTN1WWHGqrw56QEoXIyTtDnrpYVglJWcNkwydJsD_nU0YEXx3FELEh7P2ZYnO4TQ_t-qSwpyN3o";
