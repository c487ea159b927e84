/* account_password.c - what a password may be, and the gate before the expensive part. */
#include "account_int.h"
#include <stdlib.h>
#include <uninorm.h>

#define LEAST 8
#define MOST 128
#define PRODUCT "porchlight"

/* The commonest of eight letters and more, without what stands around them: digits and marks at either end are dropped before the list is asked. */
static const char *const commonest[] = {
    "password", "passwort", "passw0rd", "p@ssw0rd", "p@ssword", "passwords", "mypassword", "newpassword", "qwertyui", "qwertyuiop", "qwertyuiopasdfghjklzxcvbnm", "asdfghjkl",
    "asdfghjk", "zxcvbnm", "qwerty", "qwertz", "azerty", "asdf", "asdfasdf", "qweasd", "qweasdzxc", "qazwsx", "qazwsxedc", "1qaz2wsx", "1q2w3e4r", "1q2w3e4r5t", "q1w2e3r4",
    "zaq12wsx", "iloveyou", "ilovegod", "sunshine", "princess", "football", "baseball", "basketball", "superman", "batman", "starwars", "trustno", "trustnoone", "whatever",
    "welcome", "letmein", "dragon", "monkey", "master", "shadow", "michelle", "jennifer", "computer", "internet", "corvette", "mercedes", "michael", "charlie", "jordan",
    "ashley", "liverpool", "chelsea", "arsenal", "barcelona", "juventus", "samantha", "victoria", "butterfly", "chocolate", "administrator", "admin", "adminadmin", "root",
    "changeme", "default", "secret", "topsecret", "test", "testtest", "testing", "hello", "hellohello", "helloworld", "freedom", "abcd", "abc", "abcdef", "abcdefgh",
    "access", "login", "guest", "user", "camera", "security", "homesecurity", "doorbell", "blinkcamera", "pokemon", "minecraft", "fortnite", "naruto", "spiderman", "summer",
    "winter", "autumn", "spring", "january", "february", "september", "october", "november", "december", "monday", "friday",
};

/* ---- rules ---- */

static bool is_edge(char c) { return !((c >= 'a' && c <= 'z') || (unsigned char)c >= 0x80); }

/* Lower case, without the digits and marks at both ends: "Summer2026!" -> "summer". */
static struct pl_str core_of(struct pl_str lower)
{
    while (lower.n && is_edge(lower.p[lower.n - 1]))
        lower.n--;
    while (lower.n && is_edge(lower.p[0]))
        lower = (struct pl_str){ lower.p + 1, lower.n - 1 };
    return lower;
}

/* One step between all neighbours: aaaaaaaa, 12345678, 87654321, abcdefgh. */
static bool is_run(struct pl_str s)
{
    int step = s.n > 1 ? s.p[1] - s.p[0] : 2;
    for (size_t i = 1; i < s.n; i++)
        if (s.p[i] - s.p[i - 1] != step)
            return false;
    return step >= -1 && step <= 1;
}

static bool is_common(struct pl_str lower, struct pl_str core)
{
    if (is_run(lower))
        return true;
    for (size_t i = 0; i < PL_COUNT(commonest); i++)
        if (pl_str_eqz(core, commonest[i]) || pl_str_eqz(lower, commonest[i]))
            return true;
    return !core.n && lower.n < 12; /* digits and marks alone: a date, a phone number */
}

static enum pl_err refuse(struct pl_fail *f, const char *why) { return pl_fail_field(f, PL_PASSWORD_REFUSED, "password", "%s", why); }

static enum pl_err rules_check(struct pl_arena *a, struct pl_str password, struct pl_str email, struct pl_fail *reterr)
{
    struct pl_str domain, local = pl_str_split(email, '@', &domain);
    struct pl_str lower = pl_str_lower(a, password);
    size_t points = pl_str_codepoints(password);
    if (!lower.p)
        return PL_NO_MEMORY;
    struct pl_str core = core_of(lower), local_core = core_of(local);
    if (points < LEAST)
        return refuse(reterr, "A password has at least 8 characters.");
    if (points > MOST)
        return refuse(reterr, "A password has at most 128 characters.");
    if (pl_str_eqz(core, PRODUCT))
        return refuse(reterr, "The product's name is easy to guess.");
    if (pl_str_eq(lower, email) || pl_str_eq(lower, local) || (local_core.n >= 3 && pl_str_eq(core, local_core)))
        return refuse(reterr, "Your e-mail address is easy to guess.");
    return is_common(lower, core) ? refuse(reterr, "Many people use this password, so it is among the first that are tried.") : PL_OK;
}

enum pl_err account_password_take(struct pl_arena *a, struct pl_str given, struct pl_str email, struct pl_str *ret, struct pl_fail *reterr)
{
    size_t n = 0;
    uint8_t *norm = u8_normalize(UNINORM_NFKC, (const uint8_t *)given.p, given.n, NULL, &n);
    if (!norm)
        return given.n ? PL_NO_MEMORY : refuse(reterr, "A password has at least 8 characters.");
    struct pl_str password = pl_str_dup(a, (struct pl_str){ (const char *)norm, n });
    secure_wipe(norm, n);
    free(norm);
    if (!password.p)
        return PL_NO_MEMORY;
    enum pl_err e = email.p ? rules_check(a, password, email, reterr) : PL_OK;
    if (e == PL_OK)
        *ret = password;
    return e;
}

/* ---- the gate ---- */

void account_gate_init(struct account_gate *g, unsigned running, unsigned waiting)
{
    *g = (struct account_gate){ .most_running = running, .most_waiting = waiting };
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->free, NULL);
}

void account_gate_done(struct account_gate *g)
{
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->free);
}

/* Waits without a deadline of its own: those inside only compute, and there are at most most_waiting before us. */
static enum pl_err gate_enter(struct account_gate *g, struct pl_fail *reterr)
{
    PL_LOCK(&g->lock);
    if (g->running >= g->most_running && g->waiting >= g->most_waiting) {
        if (reterr)
            reterr->retry_after_s = 1;
        account_count(ACCOUNT_M_HASHES_REFUSED);
        return PL_OVERLOADED;
    }
    g->waiting++;
    while (g->running >= g->most_running)
        pthread_cond_wait(&g->free, &g->lock);
    g->waiting--;
    g->running++;
    return PL_OK;
}

static void gate_leave(struct account_gate *g)
{
    PL_LOCK(&g->lock);
    g->running--;
    pthread_cond_signal(&g->free);
}

static const struct secure_password_policy policy = { 0 };

enum pl_err account_password_hash(struct account *ctx, struct pl_str password, char ret[SECURE_PASSWORD_TEXT], struct pl_fail *reterr)
{
    enum pl_err e = gate_enter(&ctx->gate, reterr);
    if (e != PL_OK)
        return e;
    e = secure_password_hash(password, policy, ret);
    gate_leave(&ctx->gate);
    return e;
}

enum pl_err account_password_verify(struct account *ctx, struct pl_str stored, struct pl_str password, bool *ret_rehash, struct pl_fail *reterr)
{
    enum pl_err e = gate_enter(&ctx->gate, reterr);
    if (e != PL_OK)
        return e;
    e = secure_password_verify(stored, password, policy, ret_rehash);
    gate_leave(&ctx->gate);
    return e;
}
