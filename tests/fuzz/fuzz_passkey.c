/* Passkeys: any bytes as an attestation object, as clientDataJSON and as what was signed (S-M4). A key that is taken has a name, bytes and one of the three algorithms; no
 * signature of a fuzzer's is that of a key which it has just been given. */
#include "factor_int.h"
#include "fuzz.h"

static const struct webauthn_rp rp = { PL_STR_INIT("cloud.example"), PL_STR_INIT("https://app.cloud.example") };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(1 << 20);
    struct pl_str given = { (const char *)data, size }, question;
    struct webauthn_key key = { .algorithm = 0 };
    if (!a || size > 16384)
        return 0;
    if (webauthn_client_data(&rp, a, "webauthn.get", given, &question, NULL) == PL_OK)
        FUZZ_MUST(question.p);
    if (webauthn_new_key(&rp, a, given, &key, NULL) != PL_OK)
        return 0;
    FUZZ_MUST(key.credential_id.n && key.public_key.n && (key.algorithm == -7 || key.algorithm == -8 || key.algorithm == -257));
    uint8_t head[37] = { 0 };
    secure_sha256(rp.id, head);
    head[32] = 5;
    struct webauthn_signed s = { given, { (const char *)head, sizeof head }, given };
    FUZZ_MUST(webauthn_verify(&rp, &s, &key, NULL) != PL_OK);
    return 0;
}
