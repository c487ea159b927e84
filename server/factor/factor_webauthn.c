/* factor_webauthn.c - registration and assertion (W3C WebAuthn Level 3, 7.1 and 7.2) over libfido2 and libcbor. */
#include "factor_int.h"
#include <cbor.h>
#include <fido.h>
#include <fido/eddsa.h>
#include <fido/es256.h>
#include <fido/rs256.h>

enum { RP_HASH = 32, FLAGS = RP_HASH, COUNT = FLAGS + 1, AUTH_HEAD = COUNT + 4 };
enum { AAGUID = 16, DEPTH = 8 };
enum { FLAG_UP = 1, FLAG_UV = 4, FLAG_BACKED_UP = 16, FLAG_KEY = 64 };

struct client_data {
    struct pl_str type, challenge, origin;
    bool crossOrigin;
};
static const struct json_field client_data_fields[] = {
    JSON_F(struct client_data, type, J_STR, J_REQUIRED), JSON_F(struct client_data, challenge, J_STR, J_REQUIRED), JSON_F(struct client_data, origin, J_STR, J_REQUIRED, .hi = 1024),
    JSON_F(struct client_data, crossOrigin, J_BOOL, J_OPTIONAL), J_END };

static bool origin_known(const struct webauthn_rp *rp, struct pl_str origin)
{
    for (struct pl_str left = rp->origins, one; left.n;) {
        one = pl_str_split(left, ' ', &left);
        if (one.n && pl_str_eq(one, origin))
            return true;
    }
    return false;
}

enum pl_err webauthn_client_data(const struct webauthn_rp *rp, struct pl_arena *a, const char *type, struct pl_str raw, struct pl_str *ret_question, struct pl_fail *reterr)
{
    struct client_data d = { .crossOrigin = false };
    enum pl_err e = json_take(client_data_fields, JSON_LENIENT, raw, a, &d, NULL);
    if (e == PL_INVALID_REQUEST)
        return pl_fail_field(reterr, PL_PASSKEY_REFUSED, "clientDataJSON", "clientDataJSON is not what a browser writes.");
    if (e != PL_OK)
        return e;
    if (!pl_str_eqz(d.type, type))
        return pl_fail_field(reterr, PL_PASSKEY_REFUSED, "clientDataJSON", "clientDataJSON is of another kind: %s is expected.", type);
    if (!origin_known(rp, d.origin) || d.crossOrigin)
        return pl_fail_field(reterr, PL_PASSKEY_REFUSED, "clientDataJSON", "This origin is none of passkey.origins.");
    *ret_question = d.challenge;
    return PL_OK;
}

/* ---- authenticator data ---- */

static enum pl_err head_check(const struct webauthn_rp *rp, struct pl_str data, uint8_t must, struct webauthn_key *io, struct pl_fail *reterr)
{
    uint8_t rp_hash[RP_HASH];
    const uint8_t *p = (const uint8_t *)data.p;
    if (data.n < AUTH_HEAD)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "The authenticator's data is too short.");
    secure_sha256(rp->id, rp_hash);
    if (memcmp(p, rp_hash, sizeof rp_hash) != 0)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "This passkey is for another service.");
    if ((p[FLAGS] & must) != must)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "The device did not verify its user.");
    io->backed_up = (p[FLAGS] & FLAG_BACKED_UP) != 0;
    io->sign_count = (uint32_t)p[COUNT] << 24 | (uint32_t)p[COUNT + 1] << 16 | (uint32_t)p[COUNT + 2] << 8 | p[COUNT + 3];
    return PL_OK;
}

/* One CBOR item, whole and of definite lengths, as CTAP2 writes it; r is behind it then. The libraries take room for as many members as a text says that there are: here none is
 * said that its bytes could not hold. */
static bool well_formed(struct pl_rd *r, unsigned depth)
{
    uint8_t first = pl_rd_u8(r), info = first & 31;
    uint64_t n = info;
    if (info >= 24)
        n = info == 24 ? pl_rd_u8(r) : info == 25 ? pl_rd_u16(r) : info == 26 ? pl_rd_u32(r) : info == 27 ? pl_rd_u64(r) : UINT64_MAX;
    if (r->short_ || info > 27)
        return false;
    switch (first >> 5) {
    case 2:
    case 3: return n <= pl_rd_left(r) && (n == 0 || pl_rd_bytes(r, (size_t)n).p);
    case 4:
    case 5: n = n <= pl_rd_left(r) ? n << ((first >> 5) - 4) : UINT64_MAX; break; /* a map has two items a member */
    case 6: n = 1; break;
    default: return true;
    }
    if (depth == DEPTH || n > pl_rd_left(r))
        return false;
    while (n > 0 && well_formed(r, depth + 1))
        n--;
    return n == 0;
}

/* The new key's part of authenticator data: id, then a COSE key, then perhaps extensions. */
static bool key_part_sane(struct pl_str data)
{
    struct pl_rd r = pl_rd_of(data.p, data.n);
    (void)pl_rd_bytes(&r, AUTH_HEAD + AAGUID);
    size_t id_n = pl_rd_u16(&r);
    if (r.short_ || id_n == 0 || id_n > pl_rd_left(&r))
        return false;
    (void)pl_rd_bytes(&r, id_n);
    return well_formed(&r, 0) && (pl_rd_left(&r) == 0 || (well_formed(&r, 0) && pl_rd_left(&r) == 0));
}

static struct pl_str member_bytes(const cbor_item_t *map, const char *name)
{
    const struct cbor_pair *pairs = cbor_map_handle(map);
    size_t n = strlen(name);
    for (size_t i = 0; i < cbor_map_size(map); i++) {
        const cbor_item_t *k = pairs[i].key, *v = pairs[i].value;
        if (cbor_isa_string(k) && cbor_string_is_definite(k) && cbor_string_length(k) == n && memcmp(cbor_string_handle(k), name, n) == 0 && cbor_isa_bytestring(v) &&
            cbor_bytestring_is_definite(v))
            return (struct pl_str){ (const char *)cbor_bytestring_handle(v), cbor_bytestring_length(v) };
    }
    return PL_STR_NONE;
}

/* authData of {"fmt": …, "attStmt": …, "authData": h'…'}, in the arena. */
static enum pl_err auth_data(struct pl_arena *a, struct pl_str object, struct pl_str *ret, struct pl_fail *reterr)
{
    struct cbor_load_result r;
    struct pl_rd whole = pl_rd_of(object.p, object.n);
    if (!well_formed(&whole, 0) || pl_rd_left(&whole))
        return pl_fail_field(reterr, PL_PASSKEY_REFUSED, "attestationObject", "attestationObject is not well-formed.");
    cbor_item_t *map = cbor_load((cbor_data)object.p, object.n, &r);
    struct pl_str found = PL_STR_NONE;
    if (map && cbor_isa_map(map))
        found = member_bytes(map, "authData");
    bool there = found.p != NULL;
    struct pl_str copy = there ? pl_str_dup(a, found) : PL_STR_NONE;
    if (map)
        cbor_decref(&map);
    if (!there)
        return pl_fail_field(reterr, PL_PASSKEY_REFUSED, "attestationObject", "attestationObject holds no authenticator data.");
    if (!copy.p)
        return PL_NO_MEMORY;
    *ret = copy;
    return PL_OK;
}

static const int32_t algorithms[] = { COSE_ES256, COSE_EDDSA, COSE_RS256 };

static enum pl_err take_key(fido_cred_t *cred, struct pl_arena *a, struct webauthn_key *io)
{
    io->credential_id = pl_str_dup(a, (struct pl_str){ (const char *)fido_cred_id_ptr(cred), fido_cred_id_len(cred) });
    io->public_key = pl_str_dup(a, (struct pl_str){ (const char *)fido_cred_pubkey_ptr(cred), fido_cred_pubkey_len(cred) });
    return io->credential_id.p && io->public_key.p ? PL_OK : PL_NO_MEMORY;
}

enum pl_err webauthn_new_key(const struct webauthn_rp *rp, struct pl_arena *a, struct pl_str attestation_object, struct webauthn_key *ret, struct pl_fail *reterr)
{
    struct webauthn_key key = { .algorithm = 0 };
    struct pl_str data = PL_STR_NONE;
    enum pl_err e = auth_data(a, attestation_object, &data, reterr);
    if (e == PL_OK)
        e = head_check(rp, data, FLAG_UP | FLAG_UV | FLAG_KEY, &key, reterr);
    if (e == PL_OK && !key_part_sane(data))
        e = pl_fail_field(reterr, PL_PASSKEY_REFUSED, "attestationObject", "The new key is not well-formed.");
    for (size_t i = 0; e == PL_OK && !key.algorithm && i < PL_COUNT(algorithms); i++) {
        fido_cred_t *cred = fido_cred_new(); /* one an algorithm: libfido2 is told which is expected */
        if (!cred)
            return PL_NO_MEMORY;
        if (fido_cred_set_type(cred, algorithms[i]) == FIDO_OK && fido_cred_set_authdata_raw(cred, (const uint8_t *)data.p, data.n) == FIDO_OK) {
            key.algorithm = algorithms[i];
            e = take_key(cred, a, &key);
        }
        fido_cred_free(&cred);
    }
    if (e != PL_OK)
        return e;
    if (!key.algorithm || !key.credential_id.n || !key.public_key.n)
        return pl_fail_field(reterr, PL_PASSKEY_REFUSED, "attestationObject", "The new key is none of ES256, EdDSA, RS256.");
    *ret = key;
    return PL_OK;
}

/* ---- signatures ---- */

static bool verified(const fido_assert_t *given, const struct webauthn_key *key)
{
    void *pk = NULL;
    bool ok = false;
    switch (key->algorithm) {
    case COSE_ES256:
        ok = (pk = es256_pk_new()) && es256_pk_from_ptr(pk, key->public_key.p, key->public_key.n) == FIDO_OK && fido_assert_verify(given, 0, COSE_ES256, pk) == FIDO_OK;
        es256_pk_free((es256_pk_t **)&pk);
        break;
    case COSE_EDDSA:
        ok = (pk = eddsa_pk_new()) && eddsa_pk_from_ptr(pk, key->public_key.p, key->public_key.n) == FIDO_OK && fido_assert_verify(given, 0, COSE_EDDSA, pk) == FIDO_OK;
        eddsa_pk_free((eddsa_pk_t **)&pk);
        break;
    case COSE_RS256:
        ok = (pk = rs256_pk_new()) && rs256_pk_from_ptr(pk, key->public_key.p, key->public_key.n) == FIDO_OK && fido_assert_verify(given, 0, COSE_RS256, pk) == FIDO_OK;
        rs256_pk_free((rs256_pk_t **)&pk);
        break;
    default: break;
    }
    return ok;
}

enum pl_err webauthn_verify(const struct webauthn_rp *rp, const struct webauthn_signed *given, struct webauthn_key *io, struct pl_fail *reterr)
{
    uint8_t client_hash[32];
    char rp_id[256];
    struct webauthn_key key = *io;
    enum pl_err e = head_check(rp, given->authenticator_data, FLAG_UP | FLAG_UV, &key, reterr);
    struct pl_buf b = pl_buf_fixed(rp_id, sizeof rp_id);
    pl_buf_str(&b, rp->id);
    if (e != PL_OK || (e = pl_buf_err(&b)) != PL_OK)
        return e;
    secure_sha256(given->client_data, client_hash);
    fido_assert_t *assertion = fido_assert_new();
    if (!assertion)
        return PL_NO_MEMORY;
    bool ok = fido_assert_set_clientdata_hash(assertion, client_hash, sizeof client_hash) == FIDO_OK && fido_assert_set_rp(assertion, rp_id) == FIDO_OK &&
        fido_assert_set_count(assertion, 1) == FIDO_OK &&
        fido_assert_set_authdata_raw(assertion, 0, (const uint8_t *)given->authenticator_data.p, given->authenticator_data.n) == FIDO_OK &&
        fido_assert_set_sig(assertion, 0, (const uint8_t *)given->signature.p, given->signature.n) == FIDO_OK && fido_assert_set_up(assertion, FIDO_OPT_TRUE) == FIDO_OK &&
        fido_assert_set_uv(assertion, FIDO_OPT_TRUE) == FIDO_OK && verified(assertion, &key);
    fido_assert_free(&assertion);
    if (!ok)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "The signature is not that of this passkey.");
    *io = key;
    return PL_OK;
}
