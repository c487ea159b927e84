/* factor_recovery.c - recovery codes: 80 bits each, so that a keyed hash is all the protection that they need at rest. */
#include "factor_int.h"

#define CODE_BYTES 10
#define CODE_DIGITS 16
static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; /* Crockford's: without I, L, O, U */

static void write_code(const uint8_t raw[CODE_BYTES], char ret[FACTOR_CODE_TEXT])
{
    unsigned at = 0;
    for (unsigned i = 0; i < CODE_DIGITS; i++) {
        unsigned bit = i * 5, byte = bit / 8;
        unsigned two = (unsigned)raw[byte] << 8 | (byte + 1 < CODE_BYTES ? raw[byte + 1] : 0);
        if (i && i % 4 == 0)
            ret[at++] = '-';
        ret[at++] = digits[two >> (11 - bit % 8) & 31];
    }
    ret[at] = 0;
}

/* What people make of a code when they copy it by hand: false when it is none in any reading. */
static bool normal_form(struct pl_str given, char ret[CODE_DIGITS])
{
    size_t n = 0;
    for (size_t i = 0; i < given.n; i++) {
        char c = given.p[i];
        if (c == ' ' || c == '-')
            continue;
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        c = c == 'O' ? '0' : c == 'I' || c == 'L' ? '1' : c;
        if (n == CODE_DIGITS || !c || !strchr(digits, c))
            return false;
        ret[n++] = c;
    }
    return n == CODE_DIGITS;
}

static void hash(const struct factor *f, struct pl_uuid account_id, const char code[CODE_DIGITS], uint8_t ret[32])
{
    char text[sizeof account_id.b + CODE_DIGITS];
    memcpy(text, account_id.b, sizeof account_id.b);
    memcpy(text + sizeof account_id.b, code, CODE_DIGITS);
    secure_hmac_sha256(&f->code_key, (struct pl_str){ text, sizeof text }, ret);
    secure_wipe(text, sizeof text);
}

enum pl_err factor_recovery_make(const struct factor *f, struct db_tx *tx, struct pl_utc now, struct pl_uuid account_id, char ret[FACTOR_CODES][FACTOR_CODE_TEXT])
{
    enum pl_err e = factor_sql_codes_delete(tx, account_id, NULL);
    for (unsigned i = 0; e == PL_OK && i < FACTOR_CODES; i++) {
        uint8_t raw[CODE_BYTES], mac[32];
        char plain[CODE_DIGITS];
        pl_rand_fill(f->rand, raw, sizeof raw);
        write_code(raw, ret[i]);
        if (!normal_form(pl_str_of(ret[i]), plain))
            return PL_INTERNAL;
        hash(f, account_id, plain, mac);
        e = factor_sql_code_add(tx, account_id, (struct pl_str){ (const char *)mac, sizeof mac }, now, NULL);
        secure_wipe(raw, sizeof raw);
        secure_wipe(plain, sizeof plain);
    }
    if (e != PL_OK)
        secure_wipe(ret, FACTOR_CODES * FACTOR_CODE_TEXT);
    return e;
}

enum pl_err factor_recovery_take(const struct factor *f, struct db_tx *tx, struct pl_uuid account_id, struct pl_str code)
{
    char plain[CODE_DIGITS];
    uint8_t mac[32];
    int64_t count = 0;
    if (!normal_form(code, plain))
        return PL_PIN_WRONG;
    hash(f, account_id, plain, mac);
    secure_wipe(plain, sizeof plain);
    enum pl_err e = factor_sql_code_use(tx, account_id, (struct pl_str){ (const char *)mac, sizeof mac }, &count);
    return e == PL_OK && count != 1 ? PL_PIN_WRONG : e;
}
