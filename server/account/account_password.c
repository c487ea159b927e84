/* account_password.c - what a password may be, and its hash. */
#include "account_int.h"
#include <stdlib.h>
#include <uninorm.h>
#include <zxcvbn.h>

#define LEAST 8
#define MOST 128
#define PRODUCT "porchlight"
#define LEAST_BITS 20.0 /* a million guesses: what a patient stranger gets done online */

/* Beside libzxcvbn's dictionaries of common passwords, English words and names: the commonest of other languages, of keyboards, and of this trade. */
static const char *const commonest[] = {
    "password", "passwort", "passw0rd", "p@ssw0rd", "p@ssword", "passwords", "mypassword", "newpassword", "qwertyui", "qwertyuiop", "qwertyuiopasdfghjklzxcvbnm", "asdfghjkl",
    "asdfghjk", "zxcvbnm", "qwerty", "qwertz", "azerty", "asdf", "asdfasdf", "qweasd", "qweasdzxc", "qazwsx", "qazwsxedc", "1qaz2wsx", "1q2w3e4r", "1q2w3e4r5t", "q1w2e3r4",
    "zaq12wsx", "iloveyou", "ilovegod", "sunshine", "princess", "football", "baseball", "basketball", "superman", "batman", "starwars", "trustno", "trustnoone", "whatever",
    "welcome", "letmein", "dragon", "monkey", "master", "shadow", "michelle", "jennifer", "computer", "internet", "corvette", "mercedes", "michael", "charlie", "jordan",
    "ashley", "liverpool", "chelsea", "arsenal", "barcelona", "juventus", "samantha", "victoria", "butterfly", "chocolate", "administrator", "admin", "adminadmin", "root",
    "changeme", "default", "secret", "topsecret", "test", "testtest", "testing", "hello", "hellohello", "helloworld", "freedom", "abcd", "abc", "abcdef", "abcdefgh",
    "access", "login", "guest", "user", "camera", "security", "homesecurity", "doorbell", "blinkcamera", "pokemon", "minecraft", "fortnite", "naruto", "spiderman", "summer",
    "sommer", "herbst", "hallo", "schatz", "willkommen", "geheim", "bonjour", "soleil", "contrasena", "hola", "ciao",
    "winter", "autumn", "spring", "january", "february", "september", "october", "november", "december", "monday", "friday",
};

/* ---- rules ---- */

static enum pl_err refuse(struct pl_fail *f, const char *why) { return pl_fail_field(f, PL_PASSWORD_REFUSED, "password", "%s", why); }

#define MOST_WORDS (PL_COUNT(commonest) + 8)

/* Words that a guesser of this person's password would try first, in that order. */
struct words {
    const char *of[MOST_WORDS + 1]; /* NULL ends it */
    size_t n;
};

static void word_add(struct words *w, const char *word)
{
    if (word && w->n < MOST_WORDS)
        w->of[w->n++] = word;
}

/* The address, what stands before its @, and the words of that: eve.smith@… is eve and smith too. */
static enum pl_err email_words(struct pl_arena *a, struct pl_str email, struct words *io)
{
    struct pl_str domain, local = pl_str_split(email, '@', &domain);
    word_add(io, pl_str_z(a, email));
    word_add(io, pl_str_z(a, local));
    for (size_t i = 0, from = 0; i <= local.n; i++)
        if (i == local.n || !((local.p[i] | 0x20) >= 'a' && (local.p[i] | 0x20) <= 'z')) {
            if (i - from >= 3)
                word_add(io, pl_str_z(a, (struct pl_str){ local.p + from, i - from }));
            from = i + 1;
        }
    return pl_arena_err(a);
}

/* About how many guesses somebody needs who knows dictionaries, keyboards, dates and these words: as a power of two. */
static double guesses(const char *password, struct words *w) { return ZxcvbnMatch(password, w->of, NULL); }

/* S-A2. What the refusal names is what makes it easiest. */
static enum pl_err guess_check(struct pl_arena *a, struct pl_str password, struct pl_str email, struct pl_fail *reterr)
{
    struct words common = { .n = 0 }, product = common, own = common;
    const char *text = pl_str_z(a, password);
    word_add(&product, PRODUCT);
    enum pl_err e = text ? email_words(a, email, &own) : PL_NO_MEMORY;
    if (e != PL_OK)
        return e;
    for (size_t i = 0; i < PL_COUNT(commonest); i++) {
        word_add(&common, commonest[i]);
        word_add(&product, commonest[i]);
        word_add(&own, commonest[i]);
    }
    double by_common = guesses(text, &common), by_product = guesses(text, &product), by_own = guesses(text, &own);
    if (by_product < LEAST_BITS && by_product < by_common && by_product <= by_own)
        return refuse(reterr, "The product's name is easy to guess.");
    if (by_own < LEAST_BITS && by_own < by_common)
        return refuse(reterr, "Your e-mail address is easy to guess.");
    return by_common < LEAST_BITS ? refuse(reterr, "Many people use this password or one like it, so it is among the first that are tried.") : PL_OK;
}

static enum pl_err rules_check(struct pl_arena *a, struct pl_str password, struct pl_str email, struct pl_fail *reterr)
{
    size_t points = pl_str_codepoints(password);
    if (points < LEAST)
        return refuse(reterr, "A password has at least 8 characters.");
    return points > MOST ? refuse(reterr, "A password has at most 128 characters.") : guess_check(a, password, email, reterr);
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

/* ---- hashing ---- */

static const struct secure_password_policy policy = { 0 };

enum pl_err account_password_hash(struct pl_str password, char ret[SECURE_PASSWORD_TEXT]) { return secure_password_hash(password, policy, ret); }

enum pl_err account_password_verify(struct pl_str stored, struct pl_str password, bool *ret_rehash) { return secure_password_verify(stored, password, policy, ret_rehash); }
