/* ID tokens and the keys of providers (S-M4): the first line is a token, the second a JWK Set, the rest claims. Who comes out of it is somebody, and for us, now. */
#include "fuzz.h"
#include "outside_int.h"

static void must_be_somebody(const struct outside_identity *who)
{
    FUZZ_MUST(who->subject.n >= 1 && who->subject.n <= 255 && pl_str_is_utf8(who->subject));
    FUZZ_MUST(!who->label.p || (who->label.n && pl_str_is_utf8(who->label)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct outside_expected x = { .issuer = PL_STR_INIT("https://accounts.example"), .client_id = PL_STR_INIT("porch"), .nonce = PL_STR_INIT("n-0S6_WzA2Mj"),
                                               .access_token = PL_STR_INIT("at"), .began = { INT64_C(1790000000000000) }, .now = { INT64_C(1790000010000000) } };
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4 << 20);
    struct outside_identity who;
    struct pl_str keys, claims, token = pl_str_split((struct pl_str){ (const char *)data, size }, '\n', &keys);
    if (!a || size > 65536)
        return 0;
    keys = pl_str_split(keys, '\n', &claims);
    struct pl_fail why = PL_FAIL_INIT;
    enum pl_err e = outside_id_token(a, token, keys, &x, &who, &why);
    FUZZ_MUST(e == PL_OK || e == PL_NOT_FOUND || e == PL_LINK_REFUSED || e == PL_PROVIDER_UNAVAILABLE || e == PL_NO_MEMORY);
    FUZZ_MUST(e != PL_LINK_REFUSED || why.detail[0]);
    if (e == PL_OK)
        must_be_somebody(&who);
    if (outside_claims(a, claims, &x, &who, NULL) == PL_OK)
        must_be_somebody(&who);
    return 0;
}
