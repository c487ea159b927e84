/* Forms of /oauth/token: any bytes are either refused, or are pairs whose names differ and that come out the same when they are written and read again (S-M4). */
#include "fuzz.h"
#include "oauth_int.h"

static void write_again(struct pl_buf *b, const struct oauth_form *f)
{
    for (size_t i = 0; i < f->n; i++) {
        if (i)
            pl_buf_u8(b, '&');
        http_escape(b, f->pairs[i].name);
        pl_buf_u8(b, '=');
        http_escape(b, f->pairs[i].value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_arena *a = pl_arena_new(1 << 20);
    struct oauth_form f, again;
    if (!a)
        return 0;
    struct pl_buf b = pl_buf_init(a, 1 << 18);
    if (size <= 8192 && oauth_form_take(a, (struct pl_str){ (const char *)data, size }, &f) == PL_OK) {
        write_again(&b, &f);
        FUZZ_MUST(pl_buf_err(&b) == PL_OK && oauth_form_take(a, pl_buf_view(&b), &again) == PL_OK && again.n == f.n);
        for (size_t i = 0; i < f.n; i++) {
            FUZZ_MUST(pl_str_eq(f.pairs[i].name, again.pairs[i].name) && pl_str_eq(f.pairs[i].value, again.pairs[i].value));
            for (size_t k = 0; k < i; k++)
                FUZZ_MUST(!pl_str_eq(f.pairs[i].name, f.pairs[k].name));
        }
        struct pl_buf html = pl_buf_init(a, 1 << 18);
        for (size_t i = 0; i < f.n; i++)
            oauth_html(&html, f.pairs[i].value);
        for (size_t i = 0; i < html.n; i++)
            FUZZ_MUST(!strchr("<>\"'", html.p[i]) || !html.p[i]);
    }
    pl_arena_free(a);
    return 0;
}
