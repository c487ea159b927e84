/* notify_text.c - what each message is made of, and making it. The sentences themselves are data: deploy/messages, or the operator's folder (notify_load.c).
 * Subjects hold no value, so that no header is ever made from what a person typed; what a person typed is never looked at for placeholders. */
#include "notify_int.h"

#define ABOUT_MOST 200
#define MAIL (NOTIFY_HAS(NOTIFY_P_SUBJECT) | NOTIFY_HAS(NOTIFY_P_EMAIL))
#define TEXT NOTIFY_HAS(NOTIFY_P_SMS)
#define CALL (NOTIFY_HAS(NOTIFY_P_ASK) | NOTIFY_HAS(NOTIFY_P_VOICE))

static const char *const about_only[] = { "about", NULL }, *const link_places[] = { "about", "minutes", NULL };
static const char *const pin_places[] = { "pin", "ordinal", "count", "minutes", "about", NULL };
static const char *const pin_words[] = { "sign_up", "log_in", "reset_password", "verify_email", "verify_phone", "change_password", "change_email", "change_phone", "delete_hub",
    "replace_hub", "release_device", "transfer_device", "revoke_clients", "delete_account", "change_factors", "export_account", "make_token", "link_service", "change_owners", NULL };
static const char *const factor_words[] = { "totp_added", "totp_removed", "recovery_codes_made", "recovery_code_used", "passkey_added", "passkey_removed", "passkey_copied",
    "link_added", "link_removed", NULL };
static const char *const password_words[] = { "changed", "reset", NULL };
static const char *const access_words[] = { "token_given", "token_ended", "service_given", "service_ended", NULL };
static const char *const invitation_places[] = { "about", "name", NULL };
static const char *const sharing_words[] = { "joined", "is_viewer", "is_talker", "is_manager", "is_owner", "left", "removed", "expired", "account_deleted", "system_deleted", NULL };
_Static_assert(PL_COUNT(pin_words) <= NOTIFY_WORDS_MOST && PL_COUNT(factor_words) <= NOTIFY_WORDS_MOST, "words of a message");

const struct notify_rule notify_rules[NOTIFY_KINDS] = {
    [NOTIFY_PIN] = { "pin", MAIL | TEXT | CALL | NOTIFY_HAS(NOTIFY_P_ORDINALS), pin_places, "pin", pin_words },
    [NOTIFY_SIGN_UP_TAKEN] = { "sign_up_taken", MAIL, NULL, NULL, NULL },
    [NOTIFY_TOKEN_REUSED] = { "token_reused", MAIL, about_only, NULL, NULL },
    [NOTIFY_ACCOUNT_DELETED] = { "account_deleted", MAIL, NULL, NULL, NULL },
    [NOTIFY_PASSWORD_LINK] = { "password_link", MAIL, link_places, "about", NULL },
    [NOTIFY_PASSWORD_CHANGED] = { "password_changed", MAIL, about_only, "about", password_words },
    [NOTIFY_EMAIL_CHANGED] = { "email_changed", MAIL, about_only, "about", NULL },
    [NOTIFY_PHONE_CHANGED] = { "phone_changed", MAIL | TEXT, about_only, "about", NULL },
    [NOTIFY_CHANGE_UNDONE] = { "change_undone", MAIL, NULL, NULL, NULL },
    [NOTIFY_HUB_DELETED] = { "hub_deleted", MAIL, about_only, NULL, NULL },
    [NOTIFY_HUB_REPLACED] = { "hub_replaced", MAIL, about_only, NULL, NULL },
    [NOTIFY_DEVICE_TRIED] = { "device_tried", MAIL, about_only, NULL, NULL },
    [NOTIFY_FACTORS_CHANGED] = { "factors_changed", MAIL, about_only, "about", factor_words },
    [NOTIFY_ACCESS_CHANGED] = { "access_changed", MAIL, about_only, "about", access_words },
    /* Nothing that a person chose but an address stands in what goes to strangers: the system's name is shown when the link is opened. */
    [NOTIFY_INVITATION] = { "invitation", MAIL, invitation_places, "about", NULL },
    [NOTIFY_SHARING] = { "sharing", MAIL, about_only, "about", sharing_words },
};

const char *notify_kind_name(enum notify_kind k) { return notify_rules[k].name; }

struct making {
    const struct notify_message *m;
    const struct notify_text *text;
    struct pl_buf b;
};

/* What a person typed is told in at most 200 bytes, whole characters, and without control characters. */
static void add_typed(struct pl_buf *b, struct pl_str s)
{
    size_t n = s.n < ABOUT_MOST ? s.n : ABOUT_MOST;
    while (n < s.n && n && ((unsigned char)s.p[n] & 0xc0) == 0x80)
        n--;
    for (size_t i = 0; i < n; i++)
        pl_buf_u8(b, (unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f ? ' ' : (uint8_t)s.p[i]);
}

/* A word's own placeholders are {count} and {name}. */
static void add_word(struct making *k, const char *const *words)
{
    struct pl_str rest = PL_STR_NONE, after;
    for (size_t i = 0; words[i]; i++)
        if (pl_str_eqz(k->m->about, words[i]))
            rest = k->text->words[i];
    while (rest.n) {
        pl_buf_str(&k->b, pl_str_split(rest, '{', &after));
        if (!after.n)
            break;
        if (pl_str_eqz(pl_str_split(after, '}', &rest), "count"))
            pl_buf_fmt(&k->b, "%d", k->m->ordinal);
        else
            add_typed(&k->b, k->m->name);
    }
}

static void add_ordinal(struct making *k)
{
    struct pl_str rest = k->text->parts[NOTIFY_P_ORDINALS], word = PL_STR_NONE;
    for (int32_t i = 0; i < k->m->ordinal; i++)
        word = pl_str_split(rest, ' ', &rest);
    if (word.n)
        pl_buf_str(&k->b, word);
    else
        pl_buf_fmt(&k->b, "%d", k->m->ordinal);
}

/* A voice says the digits one by one. */
static void add_pin(struct making *k)
{
    for (size_t i = 0; i < k->m->pin.n; i++) {
        pl_buf_u8(&k->b, (uint8_t)k->m->pin.p[i]);
        if (k->m->channel == NOTIFY_VOICE && i + 1 < k->m->pin.n)
            pl_buf_z(&k->b, ", ");
    }
}

static void add_value(struct making *k, struct pl_str name)
{
    const char *const *words = notify_rules[k->m->kind].words;
    if (pl_str_eqz(name, "pin"))
        add_pin(k);
    else if (pl_str_eqz(name, "ordinal"))
        add_ordinal(k);
    else if (pl_str_eqz(name, "count"))
        pl_buf_fmt(&k->b, "%d", k->m->ordinal);
    else if (pl_str_eqz(name, "minutes"))
        pl_buf_fmt(&k->b, "%lld", (long long)(k->m->life_us / PL_MINUTE));
    else if (pl_str_eqz(name, "name"))
        add_typed(&k->b, k->m->name);
    else if (words)
        add_word(k, words);
    else
        add_typed(&k->b, k->m->about);
}

static bool word_known(const struct notify_message *m)
{
    const char *const *words = notify_rules[m->kind].words;
    for (size_t i = 0; words && words[i]; i++)
        if (pl_str_eqz(m->about, words[i]))
            return true;
    return !words;
}

enum pl_err notify_render(const struct notify *n, const struct notify_message *m, struct pl_arena *a, struct notify_body *ret)
{
    static const enum notify_part parts[NOTIFY_CHANNELS] = { NOTIFY_P_EMAIL, NOTIFY_P_SMS, NOTIFY_P_VOICE };
    const struct notify_text *t = notify_text_find(n->texts, m->kind, m->locale);
    struct making k = { .m = m, .text = t, .b = pl_buf_init(a, 4096) };
    struct pl_str rest = t->parts[parts[m->channel]], after;
    if (!rest.n)
        return PL_CHANNEL_REFUSED;
    if (!word_known(m))
        return PL_INTERNAL;
    while (rest.n) {
        pl_buf_str(&k.b, pl_str_split(rest, '{', &after));
        if (!after.n)
            break;
        add_value(&k, pl_str_split(after, '}', &rest));
    }
    if (m->channel == NOTIFY_EMAIL)
        pl_buf_z(&k.b, "\n");
    if (m->channel == NOTIFY_SMS && m->pin.p && n->otp_domain) /* what phones fill in of themselves: "origin-bound one-time codes", last line */
        pl_buf_fmt(&k.b, "\n@%s #%.*s", n->otp_domain, PL_FMT(m->pin));
    if (pl_buf_err(&k.b) != PL_OK)
        return PL_NO_MEMORY;
    *ret = (struct notify_body){ .to = m->to, .subject = t->parts[NOTIFY_P_SUBJECT], .text = pl_buf_view(&k.b), .pin = m->pin, .locale = t->locale,
        .ask = m->channel == NOTIFY_VOICE ? t->parts[NOTIFY_P_ASK] : PL_STR_NONE };
    return PL_OK;
}

/* ---- what a text message costs ---- */

static uint32_t next_char(struct pl_str s, size_t *at)
{
    unsigned char c = (unsigned char)s.p[(*at)++];
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    uint32_t v = more ? c & (0x3fu >> more) : c;
    for (; more > 0 && *at < s.n; more--)
        v = v << 6 | ((unsigned char)s.p[(*at)++] & 0x3fu);
    return v;
}

/* 3GPP TS 23.038, section 6.2.1: 1 septet, 2 behind the escape, 0: not in the alphabet. */
static unsigned septets(uint32_t c)
{
    static const uint16_t others[] = { 0xa1, 0xa3, 0xa4, 0xa5, 0xa7, 0xbf, 0xc4, 0xc5, 0xc6, 0xc7, 0xc9, 0xd1, 0xd6, 0xd8, 0xdc, 0xdf, 0xe0, 0xe4, 0xe5, 0xe6, 0xe8, 0xe9, 0xec, 0xf1, 0xf2,
        0xf6, 0xf8, 0xf9, 0xfc, 0x393, 0x394, 0x398, 0x39b, 0x39e, 0x3a0, 0x3a3, 0x3a6, 0x3a8, 0x3a9 };
    if (c == '^' || c == '{' || c == '}' || c == '\\' || c == '[' || c == '~' || c == ']' || c == '|' || c == 0x20ac)
        return 2;
    if (c == '\n' || c == '\r' || (c >= ' ' && c < 0x7f && c != '`'))
        return 1;
    for (size_t i = 0; i < PL_COUNT(others); i++)
        if (others[i] == c)
            return 1;
    return 0;
}

/* Into parts of `room` units each. A character of two stays in one part. */
static unsigned parts(struct pl_str text, bool gsm, unsigned room)
{
    unsigned n = 1, used = 0;
    for (size_t at = 0; at < text.n;) {
        uint32_t c = next_char(text, &at);
        unsigned units = gsm ? septets(c) : c > 0xffff ? 2 : 1;
        n += used + units > room;
        used = used + units > room ? units : used + units;
    }
    return n;
}

unsigned notify_segments(struct pl_str text)
{
    bool gsm = true;
    for (size_t at = 0; at < text.n;)
        gsm = septets(next_char(text, &at)) && gsm;
    return parts(text, gsm, gsm ? 160 : 70) == 1 ? 1 : parts(text, gsm, gsm ? 153 : 67);
}

/* The most that this text becomes with any of its words and ordinals. */
static enum pl_err longest(const struct notify *n, const struct notify_text *t, struct pl_str link, struct pl_arena *a, unsigned *ret)
{
    const char *const one[] = { "", NULL }, *const *words = notify_rules[t->kind].words ? notify_rules[t->kind].words : one;
    struct notify_body b;
    *ret = 0;
    for (size_t w = 0; words[w]; w++)
        for (int32_t ordinal = 1; ordinal <= 5; ordinal++) {
            struct notify_message m = { .kind = t->kind, .channel = NOTIFY_SMS, .locale = t->locale, .about = words == one ? link : pl_str_of(words[w]), .ordinal = ordinal, .life_us = 40 * PL_MINUTE,
                                        .pin = t->kind == NOTIFY_PIN ? PL_STR("000000") : PL_STR_NONE };
            enum pl_err e = notify_render(n, &m, a, &b);
            unsigned segments = e == PL_OK ? notify_segments(b.text) : 0;
            pl_arena_reset(a);
            *ret = segments > *ret ? segments : *ret;
            if (e != PL_OK)
                return e;
        }
    return PL_OK;
}

enum pl_err notify_long_texts(const struct notify_conf *conf, struct pl_str link, struct pl_arena *a, notify_say_long *say, void *arg, struct pl_fail *reterr)
{
    const char *folder = conf->messages.n ? pl_str_z(a, conf->messages) : NULL;
    struct notify n = { .otp_domain = conf->otp_domain.n ? pl_str_z(a, conf->otp_domain) : NULL };
    enum pl_err e = notify_texts_load(folder, &n.texts, reterr);
    struct pl_arena *scratch PL_CLEANUP(pl_arena_freep) = pl_arena_new(64 << 10);
    const struct notify_text *t = NULL;
    unsigned segments;
    if (e == PL_OK && !scratch)
        e = PL_NO_MEMORY;
    while (e == PL_OK && (t = notify_text_next(n.texts, t)))
        if (t->parts[NOTIFY_P_SMS].n && notify_text_find(n.texts, t->kind, t->locale) == t && (e = longest(&n, t, link, scratch, &segments)) == PL_OK && segments > 1)
            say(arg, t->locale.p, notify_rules[t->kind].name, segments);
    notify_texts_free(n.texts);
    return e;
}
