/* factor_totp.c - authenticator apps: RFC 6238 over RFC 4226. */
#include "factor_int.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#define KEY_BYTES 20
#define STEP_S 30
#define AROUND 1 /* steps before and after the present one: clocks of phones are off, and people type slowly */

enum pl_err factor_totp_code(const uint8_t *key, size_t n, uint64_t step, char ret[7])
{
    uint8_t counter[8], mac[EVP_MAX_MD_SIZE];
    unsigned mac_n = 0;
    for (int i = 0; i < 8; i++)
        counter[i] = (uint8_t)(step >> (8 * (7 - i)));
    if (!HMAC(EVP_sha1(), key, (int)n, counter, sizeof counter, mac, &mac_n) || mac_n != 20)
        return PL_NO_MEMORY;
    unsigned at = mac[19] & 15;
    uint32_t value = ((uint32_t)mac[at] << 24 | (uint32_t)mac[at + 1] << 16 | (uint32_t)mac[at + 2] << 8 | mac[at + 3]) & 0x7fffffff;
    (void)snprintf(ret, 7, "%06u", (unsigned)(value % 1000000));
    secure_wipe(mac, sizeof mac);
    return PL_OK;
}

/* RFC 4648 base32 without padding; 20 bytes make 32 characters. */
static void base32(const uint8_t key[KEY_BYTES], char ret[FACTOR_SECRET_TEXT])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    for (unsigned i = 0; i < FACTOR_SECRET_TEXT - 1; i++) {
        unsigned bit = i * 5, at = bit / 8;
        unsigned two = (unsigned)key[at] << 8 | (at + 1 < KEY_BYTES ? key[at + 1] : 0);
        ret[i] = digits[two >> (11 - bit % 8) & 31];
    }
    ret[FACTOR_SECRET_TEXT - 1] = 0;
}

/* The account's id is bound into the seal: a secret that is copied to another row is of no use there. */
static struct pl_str context_of(const struct pl_uuid *account_id) { return (struct pl_str){ (const char *)account_id->b, sizeof account_id->b }; }

enum pl_err factor_totp_begin(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, char ret[FACTOR_SECRET_TEXT])
{
    uint8_t key[KEY_BYTES];
    struct pl_str sealed;
    int64_t count = 0;
    pl_rand_fill(f->rand, key, sizeof key);
    enum pl_err e = secure_seal(&f->totp_key, context_of(&account_id), (struct pl_str){ (const char *)key, sizeof key }, db_arena(tx), &sealed);
    if (e == PL_OK)
        e = factor_sql_totp_put(tx, account_id, sealed, now, &count);
    if (e == PL_OK && count != 1)
        e = PL_FACTOR_EXISTS;
    if (e == PL_OK)
        base32(key, ret);
    secure_wipe(key, sizeof key);
    return e;
}

static void percent(struct pl_buf *b, struct pl_str s)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] && strchr(plain, s.p[i]))
            pl_buf_add(b, &s.p[i], 1);
        else
            pl_buf_fmt(b, "%%%02X", (uint8_t)s.p[i]);
}

enum pl_err factor_totp_uri(const struct factor *f, struct pl_arena *a, const char *secret, struct pl_str label, struct pl_str *ret)
{
    struct pl_buf b = pl_buf_init(a, 2048);
    pl_buf_z(&b, "otpauth://totp/");
    percent(&b, f->conf.issuer);
    pl_buf_z(&b, ":");
    percent(&b, label);
    pl_buf_fmt(&b, "?secret=%s&issuer=", secret);
    percent(&b, f->conf.issuer);
    *ret = pl_buf_view(&b);
    return pl_buf_err(&b);
}

/* *ret_step: the step whose code it is. All are compared, so that time tells nothing. */
static enum pl_err step_of(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str sealed, struct pl_str code, int64_t *ret_step)
{
    struct pl_str key;
    char expected[7];
    int64_t present = now.us / PL_SECOND / STEP_S, found = 0;
    enum pl_err e = secure_open(&f->totp_key, context_of(&account_id), sealed, db_arena(tx), &key);
    if (e != PL_OK)
        return PL_INTERNAL; /* of another master key, or changed */
    for (int64_t step = present - AROUND; e == PL_OK && step <= present + AROUND; step++) {
        e = factor_totp_code((const uint8_t *)key.p, key.n, (uint64_t)step, expected);
        if (e == PL_OK && secure_eq(expected, 6, code.p, code.n))
            found = step;
    }
    secure_wipe(expected, sizeof expected);
    secure_wipe((void *)(uintptr_t)key.p, key.n);
    if (e != PL_OK)
        return e;
    *ret_step = found;
    return found ? PL_OK : PL_PIN_WRONG;
}

enum pl_err factor_totp_confirm(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str code)
{
    struct factor_sql_totp_get_row row;
    bool found;
    int64_t step, count = 0;
    enum pl_err e = factor_sql_totp_get(tx, account_id, &row, &found);
    if (e == PL_OK && (!found || row.confirmed_at.us))
        return PL_NOT_FOUND;
    if (e == PL_OK)
        e = step_of(f, tx, now, account_id, row.secret_sealed, code, &step);
    if (e == PL_OK)
        e = factor_sql_totp_confirm(tx, account_id, row.secret_sealed, step, now, &count);
    return e == PL_OK && count != 1 ? PL_RETRY : e;
}

enum pl_err factor_totp_take(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, struct pl_str code)
{
    struct factor_sql_totp_get_row row;
    bool found;
    int64_t step, count = 0;
    enum pl_err e = factor_sql_totp_get(tx, account_id, &row, &found);
    if (e == PL_OK && (!found || !row.confirmed_at.us))
        return PL_PIN_WRONG;
    if (e == PL_OK)
        e = step_of(f, tx, now, account_id, row.secret_sealed, code, &step);
    if (e == PL_OK)
        e = factor_sql_totp_step(tx, account_id, row.secret_sealed, step, &count);
    return e == PL_OK && count != 1 ? PL_PIN_WRONG : e;
}

enum pl_err factor_totp_remove(struct db_tx *tx, struct pl_uuid account_id)
{
    int64_t count;
    enum pl_err e = factor_sql_totp_delete(tx, account_id, &count);
    return e == PL_OK && count == 0 ? PL_NOT_FOUND : e;
}
