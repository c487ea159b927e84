/* Settings files: any bytes are either taken, with every value inside its row's range, or refused with a sentence that has a line number (S-M4). The durations' own
 * parser is driven with the same bytes. */
#include "fuzz.h"
#include "conf.h"

struct settings {
    struct pl_str name, level, url, at;
    int64_t n, wait;
    bool on;
};
static const char *const levels[] = { "low", "high", NULL }, *const schemes[] = { "smtp://", "smtps://", NULL };
static const struct conf_row rows[] = {
    CONF_STR("name", struct settings, name, 16, "x", "A name."),
    CONF_NUM("number", struct settings, n, -5, 9, "3", "A number."),
    CONF_DUR("wait", struct settings, wait, PL_SECOND, PL_HOUR, "90s", "A time."),
    CONF_BOOL("on", struct settings, on, "true", "A switch."),
    CONF_WORD("log.level", struct settings, level, levels, "low", "A word."),
    CONF_URL("url", struct settings, url, 32, schemes, "", "An address."),
    CONF_LISTEN("listen", struct settings, at, 32, "127.0.0.1:80", "A place."),
    CONF_END,
};

static void must_hold(const struct settings *s)
{
    FUZZ_MUST(s->name.n <= 16 && s->n >= -5 && s->n <= 9 && s->wait >= PL_SECOND && s->wait <= PL_HOUR);
    FUZZ_MUST(pl_str_eqz(s->level, "low") || pl_str_eqz(s->level, "high"));
    FUZZ_MUST(s->url.n == 0 || pl_str_starts(s->url, PL_STR("smtp://")) || pl_str_starts(s->url, PL_STR("smtps://")));
    FUZZ_MUST(s->at.n >= 3 && s->at.n <= 32 && pl_str_find(s->at, ':') < s->at.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_arena *a = pl_arena_new(1 << 20);
    struct pl_fail fail = PL_FAIL_INIT;
    struct settings s;
    struct pl_str text = { (const char *)data, size };
    int64_t us = -1;
    if (!a)
        return 0;
    enum pl_err e = conf_parse(rows, &s, text, "fuzz", a, &fail);
    if (e == PL_OK)
        must_hold(&s);
    else
        FUZZ_MUST(e == PL_NO_MEMORY || (e == PL_INVALID_REQUEST && strncmp(fail.detail, "fuzz:", 5) == 0 && fail.detail[5] >= '1' && fail.detail[5] <= '9'));
    if (conf_duration(text, &us) == PL_OK)
        FUZZ_MUST(us >= 0);
    pl_arena_free(a);
    return 0;
}
