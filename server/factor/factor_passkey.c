/* factor_passkey.c - whose passkey it is, what was asked, and that each answer counts once. */
#include "factor_int.h"

#define QUESTION_LIFE (5 * PL_MINUTE)
enum { TIME_BYTES = 8, CHANCE_BYTES = 8, MAC_BYTES = 16, QUESTION_BYTES = TIME_BYTES + CHANCE_BYTES + MAC_BYTES };

enum pl_err factor_passkey_offered(const struct factor *f, struct pl_fail *reterr)
{
    return f->conf.rp_id.n ? PL_OK : pl_fail(reterr, PL_NOT_OFFERED, "This service has no passkey.rp_id, so that passkeys cannot be made for it.");
}

static struct webauthn_rp rp_of(const struct factor *f) { return (struct webauthn_rp){ f->conf.rp_id, f->conf.origins }; }

/* ---- questions ---- */

/* Nothing is kept of a question of ours: its time and a MAC say that it is one. Only an answer that was right leaves a row. */
static void question_mac(const struct factor *f, enum factor_ask what, const uint8_t head[TIME_BYTES + CHANCE_BYTES], uint8_t ret[32])
{
    char text[1 + TIME_BYTES + CHANCE_BYTES];
    text[0] = (char)what;
    memcpy(text + 1, head, TIME_BYTES + CHANCE_BYTES);
    secure_hmac_sha256(&f->question_key, (struct pl_str){ text, sizeof text }, ret);
}

static struct pl_str question_new(const struct factor *f, struct pl_arena *a, struct pl_utc now, enum factor_ask what)
{
    uint8_t q[QUESTION_BYTES], mac[32];
    for (int i = 0; i < TIME_BYTES; i++)
        q[i] = (uint8_t)((uint64_t)now.us >> (8 * (TIME_BYTES - 1 - i)));
    pl_rand_fill(f->rand, q + TIME_BYTES, CHANCE_BYTES);
    question_mac(f, what, q, mac);
    memcpy(q + TIME_BYTES + CHANCE_BYTES, mac, MAC_BYTES);
    return pl_b64url(a, q, sizeof q);
}

/* A question of ours, not too old, answered for the first time. */
static enum pl_err question_take(const struct factor *f, struct db_tx *tx, struct pl_utc now, enum factor_ask what, struct pl_str question, struct pl_fail *reterr)
{
    uint8_t q[QUESTION_BYTES], mac[32], hash[32];
    struct pl_utc at = { 0 };
    int64_t count = 0;
    bool ours = pl_unb64url(question, q, sizeof q) == PL_OK;
    if (ours) {
        for (int i = 0; i < TIME_BYTES; i++)
            at.us = (int64_t)((uint64_t)at.us << 8 | q[i]);
        question_mac(f, what, q, mac);
        ours = secure_eq(mac, MAC_BYTES, q + TIME_BYTES + CHANCE_BYTES, MAC_BYTES);
    }
    if (!ours)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "This question was not asked here.");
    struct pl_utc ends = pl_utc_add(at, QUESTION_LIFE);
    if (pl_utc_cmp(now, ends) >= 0)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "The question was asked more than five minutes ago. Ask for a new one.");
    secure_sha256(question, hash);
    enum pl_err e = factor_sql_answered(tx, (struct pl_str){ (const char *)hash, sizeof hash }, ends, &count);
    return e == PL_OK && count != 1 ? pl_fail(reterr, PL_PASSKEY_REFUSED, "This question was answered before. Ask for a new one.") : e;
}

struct pl_str factor_passkey_question(const struct factor *f, struct pl_arena *a, struct pl_uuid challenge_id, struct pl_str challenge_key)
{
    uint8_t mac[32];
    char text[16 + 64];
    struct pl_buf b = pl_buf_fixed(text, sizeof text);
    pl_buf_add(&b, challenge_id.b, sizeof challenge_id.b);
    pl_buf_str(&b, challenge_key.n <= 64 ? challenge_key : PL_STR(""));
    secure_hmac_sha256(&f->question_key, pl_buf_view(&b), mac);
    secure_wipe(text, sizeof text);
    return pl_b64url(a, mac, sizeof mac);
}

/* ---- asking ---- */

static void list_passkeys(struct jw *w, const char *name, const struct factor_sql_passkeys_row *rows, size_t n)
{
    jw_array(w, name);
    for (size_t i = 0; i < n; i++) {
        jw_open(w, NULL);
        jw_z(w, "type", "public-key");
        jw_b64(w, "id", rows[i].credential_id.p, rows[i].credential_id.n);
        jw_close(w);
    }
    jw_end_array(w);
}

static void write_registration(const struct factor *f, struct pl_uuid account_id, struct pl_str email, struct jw *w)
{
    static const int algorithms[] = { -7, -8, -257 };
    jw_open(w, "rp");
    jw_str(w, "id", f->conf.rp_id);
    jw_str(w, "name", f->conf.issuer);
    jw_close(w);
    jw_open(w, "user");
    jw_b64(w, "id", account_id.b, sizeof account_id.b);
    jw_str(w, "name", email);
    jw_str(w, "displayName", email);
    jw_close(w);
    jw_array(w, "pubKeyCredParams");
    for (size_t i = 0; i < PL_COUNT(algorithms); i++) {
        jw_open(w, NULL);
        jw_z(w, "type", "public-key");
        jw_int(w, "alg", algorithms[i]);
        jw_close(w);
    }
    jw_end_array(w);
    jw_open(w, "authenticatorSelection");
    jw_z(w, "residentKey", "required");
    jw_bool(w, "requireResidentKey", true);
    jw_z(w, "userVerification", "required");
    jw_close(w);
    jw_z(w, "attestation", "none");
}

enum pl_err factor_passkey_ask(const struct factor *f, struct db_tx *tx, struct pl_utc now, enum factor_ask what, struct pl_uuid account_id, struct pl_str email,
                               struct pl_str question, struct jw *w)
{
    struct factor_sql_passkeys_row *rows = NULL;
    size_t n = 0;
    enum pl_err e = pl_uuid_is_zero(account_id) ? PL_OK : factor_sql_passkeys(tx, account_id, &rows, &n);
    if (e != PL_OK)
        return e;
    if (!question.p && !(question = question_new(f, db_arena(tx), now, what)).p)
        return PL_NO_MEMORY;
    jw_open(w, "public_key");
    jw_str(w, "challenge", question);
    jw_int(w, "timeout", QUESTION_LIFE / PL_MS);
    if (what == FACTOR_REGISTER) {
        write_registration(f, account_id, email, w);
        list_passkeys(w, "excludeCredentials", rows, n);
    } else {
        jw_str(w, "rpId", f->conf.rp_id);
        jw_z(w, "userVerification", "required");
        list_passkeys(w, "allowCredentials", rows, n);
    }
    jw_close(w);
    return PL_OK;
}

/* ---- answers ---- */

struct answer {
    struct pl_str clientDataJSON, attestationObject, authenticatorData, signature;
};
struct credential {
    struct pl_str id;
    struct answer response;
};
static const struct json_field registration_answer[] = { JSON_F(struct answer, clientDataJSON, J_B64, J_REQUIRED, .lo = 1, .hi = 4096),
                                                         JSON_F(struct answer, attestationObject, J_B64, J_REQUIRED, .lo = 1, .hi = 16384), J_END };
static const struct json_field registration_fields[] = { JSON_F(struct credential, id, J_B64, J_REQUIRED, .lo = 1, .hi = 1023),
                                                         JSON_F(struct credential, response, J_OBJECT, J_REQUIRED, .fields = registration_answer), J_END };
static const struct json_field sign_in_answer[] = { JSON_F(struct answer, clientDataJSON, J_B64, J_REQUIRED, .lo = 1, .hi = 4096),
                                                    JSON_F(struct answer, authenticatorData, J_B64, J_REQUIRED, .lo = 1, .hi = 4096),
                                                    JSON_F(struct answer, signature, J_B64, J_REQUIRED, .lo = 1, .hi = 1024), J_END };
static const struct json_field sign_in_fields[] = { JSON_F(struct credential, id, J_B64, J_REQUIRED, .lo = 1, .hi = 1023),
                                                    JSON_F(struct credential, response, J_OBJECT, J_REQUIRED, .fields = sign_in_answer), J_END };

enum pl_err factor_passkey_add(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str name, struct pl_str credential, struct pl_uuid *ret_id,
                               struct pl_fail *reterr)
{
    struct webauthn_rp rp = rp_of(f);
    struct credential c = { .id = PL_STR_NONE };
    struct webauthn_key key;
    struct pl_str question;
    struct pl_uuid id = pl_uuid7(f->rand, now);
    int64_t count = 0;
    enum pl_err e = factor_passkey_offered(f, reterr);
    if (e == PL_OK)
        e = json_take(registration_fields, JSON_LENIENT, credential, db_arena(tx), &c, reterr);
    if (e == PL_OK)
        e = webauthn_client_data(&rp, db_arena(tx), "webauthn.create", c.response.clientDataJSON, &question, reterr);
    if (e == PL_OK)
        e = webauthn_new_key(&rp, db_arena(tx), c.response.attestationObject, &key, reterr);
    if (e == PL_OK && !pl_str_eq(key.credential_id, c.id))
        e = pl_fail_field(reterr, PL_PASSKEY_REFUSED, "id", "The id is not that of the new key.");
    if (e == PL_OK)
        e = question_take(f, tx, now, FACTOR_REGISTER, question, reterr);
    if (e == PL_OK)
        e = factor_sql_credential_add(tx, key.credential_id, account_id, id, &count);
    if (e == PL_OK && count != 1)
        return pl_fail(reterr, PL_FACTOR_EXISTS, "This passkey is registered already.");
    if (e == PL_OK)
        e = factor_sql_passkey_add(tx, account_id, id, name, key.credential_id, key.algorithm, key.public_key, key.sign_count, key.backed_up, now, &count);
    if (e == PL_OK && count != 1)
        return pl_fail(reterr, PL_FACTOR_EXISTS, "An account has at most %d passkeys. Remove one first.", FACTOR_PASSKEYS);
    if (e == PL_OK)
        *ret_id = id;
    return e;
}

/* A counter that did not rise means that two devices hold the key; one that is always 0 is not kept by the device. */
static bool copied(int64_t before, uint32_t now) { return (before > 0 || now > 0) && (int64_t)now <= before; }

enum pl_err factor_passkey_take(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_str question, struct pl_str credential, struct factor_used *ret,
                                struct pl_fail *reterr)
{
    struct webauthn_rp rp = rp_of(f);
    struct credential c = { .id = PL_STR_NONE };
    struct factor_sql_passkey_find_row row;
    struct pl_str answered;
    bool found = false;
    int64_t count = 0;
    enum pl_err e = factor_passkey_offered(f, reterr);
    if (e == PL_OK)
        e = json_take(sign_in_fields, JSON_LENIENT, credential, db_arena(tx), &c, reterr);
    if (e == PL_OK)
        e = webauthn_client_data(&rp, db_arena(tx), "webauthn.get", c.response.clientDataJSON, &answered, reterr);
    if (e == PL_OK && question.p && !secure_eq(question.p, question.n, answered.p, answered.n))
        e = pl_fail(reterr, PL_PASSKEY_REFUSED, "This question was not asked here.");
    if (e == PL_OK)
        e = factor_sql_passkey_find(tx, c.id, &row, &found);
    if (e == PL_OK && !found)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "This passkey is not known here.");
    if (e != PL_OK)
        return e;
    struct webauthn_key key = { .algorithm = row.algorithm, .public_key = row.public_key };
    struct webauthn_signed given = { c.response.clientDataJSON, c.response.authenticatorData, c.response.signature };
    if ((e = webauthn_verify(&rp, &given, &key, reterr)) != PL_OK || (!question.p && (e = question_take(f, tx, now, FACTOR_SIGN_IN, answered, reterr)) != PL_OK))
        return e;
    *ret = (struct factor_used){ .account_id = row.account_id, .passkey_id = row.id, .name = row.name, .copied = copied(row.sign_count, key.sign_count) };
    if (ret->copied)
        return pl_fail(reterr, PL_PASSKEY_REFUSED, "This passkey was used by another device in the meantime: it seems to have been copied.");
    e = factor_sql_passkey_used(tx, row.account_id, row.id, row.sign_count, key.sign_count, key.backed_up, now, &count);
    return e == PL_OK && count != 1 ? PL_RETRY : e;
}

enum pl_err factor_passkey_rename(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id, struct pl_str name)
{
    int64_t count;
    enum pl_err e = factor_sql_passkey_rename(tx, account_id, id, name, &count);
    return e == PL_OK && count == 0 ? PL_NOT_FOUND : e;
}

enum pl_err factor_passkey_remove(struct db_tx *tx, struct pl_uuid account_id, struct pl_uuid id)
{
    int64_t count;
    enum pl_err e = factor_sql_passkey_delete(tx, account_id, id, &count);
    if (e == PL_OK && count == 0)
        return PL_NOT_FOUND;
    return e == PL_OK ? factor_sql_credential_delete(tx, account_id, id, NULL) : e;
}
