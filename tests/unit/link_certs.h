/* link_certs.h - an authority of the test's own and certificates by it, in files that end with the test. P-256.
 *     struct certs c;   certs_make(&c);   … c.good.cert, c.good.key, c.ca …   certs_remove(&c); */
#pragma once
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct cert_files { char cert[64], key[64]; };
struct certs {
    char folder[32], ca[64], other_ca[64];
    struct cert_files good, expired, other_name; /**< for 127.0.0.1 and ::1; the same, of last year; for elsewhere.example */
};

static void cert_must(bool good)
{
    if (!good) {
        fputs("a certificate could not be made\n", stderr);
        abort();
    }
}

static X509 *cert_make(EVP_PKEY *key, const char *name, const char *alt, long from_day, long to_day, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    X509_NAME *subject = X509_NAME_new();
    X509V3_CTX ctx;
    cert_must(x && subject && X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0));
    cert_must(X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), issuer ? 2 : 1) && X509_set_subject_name(x, subject) &&
              X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject) && X509_set_pubkey(x, key));
    cert_must(X509_gmtime_adj(X509_getm_notBefore(x), from_day * 86400) && X509_gmtime_adj(X509_getm_notAfter(x), to_day * 86400));
    X509V3_set_ctx(&ctx, issuer ? issuer : x, x, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, alt ? NID_subject_alt_name : NID_basic_constraints, alt ? alt : "critical,CA:TRUE");
    cert_must(ext && X509_add_ext(x, ext, -1) && X509_sign(x, issuer ? issuer_key : key, EVP_sha256()));
    X509_EXTENSION_free(ext);
    X509_NAME_free(subject);
    return x;
}

static void cert_write(const char *path, X509 *x, EVP_PKEY *key)
{
    FILE *f = fopen(path, "we");
    cert_must(f && (x ? PEM_write_X509(f, x) : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL)) && fclose(f) == 0);
}

static void certs_make(struct certs *c)
{
    struct { struct cert_files *to; const char *file, *alt; long from, until; } rows[] = {
        { &c->good, "good", "IP:127.0.0.1,IP:::1", -1, 2 }, { &c->expired, "expired", "IP:127.0.0.1", -300, -2 }, { &c->other_name, "other", "DNS:elsewhere.example", -1, 2 } };
    snprintf(c->folder, sizeof c->folder, "/tmp/porch-certs-XXXXXX");
    cert_must(mkdtemp(c->folder) != NULL);
    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *other_key = EVP_EC_gen("P-256");
    X509 *ca = cert_make(ca_key, "Test authority", NULL, -400, 2, NULL, NULL), *other = cert_make(other_key, "Test authority", NULL, -1, 2, NULL, NULL);
    snprintf(c->ca, sizeof c->ca, "%s/ca.pem", c->folder);
    snprintf(c->other_ca, sizeof c->other_ca, "%s/other_ca.pem", c->folder);
    cert_write(c->ca, ca, NULL);
    cert_write(c->other_ca, other, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *x = cert_make(key, rows[i].file, rows[i].alt, rows[i].from, rows[i].until, ca, ca_key);
        snprintf(rows[i].to->cert, sizeof rows[i].to->cert, "%s/%s.pem", c->folder, rows[i].file);
        snprintf(rows[i].to->key, sizeof rows[i].to->key, "%s/%s.key", c->folder, rows[i].file);
        cert_write(rows[i].to->cert, x, NULL);
        cert_write(rows[i].to->key, NULL, key);
        X509_free(x);
        EVP_PKEY_free(key);
    }
    X509_free(ca);
    X509_free(other);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(other_key);
}

static void certs_remove(struct certs *c)
{
    const char *files[] = { c->ca, c->other_ca, c->good.cert, c->good.key, c->expired.cert, c->expired.key, c->other_name.cert, c->other_name.key };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    rmdir(c->folder);
}
