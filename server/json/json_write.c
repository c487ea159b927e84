#include "json.h"
#include <math.h>

struct jw jw_start(struct pl_buf *b) { return (struct jw){ .b = b }; }

/* The comma before a member, and its name. */
static void member(struct jw *w, const char *name)
{
    uint32_t bit = UINT32_C(1) << (w->depth & 31);
    if (w->comma & bit)
        pl_buf_u8(w->b, ',');
    w->comma |= bit;
    if (name) {
        pl_buf_json(w->b, pl_str_of(name));
        pl_buf_u8(w->b, ':');
    }
}

static void deeper(struct jw *w, const char *name, uint8_t c)
{
    member(w, name);
    pl_buf_u8(w->b, c);
    if (++w->depth > 31)
        w->b->failed = true;
    w->comma &= ~(UINT32_C(1) << (w->depth & 31));
}

static void shallower(struct jw *w, uint8_t c)
{
    if (w->depth == 0)
        w->b->failed = true;
    else
        w->depth--;
    pl_buf_u8(w->b, c);
}

void jw_open(struct jw *w, const char *name) { deeper(w, name, '{'); }
void jw_close(struct jw *w) { shallower(w, '}'); }
void jw_array(struct jw *w, const char *name) { deeper(w, name, '['); }
void jw_end_array(struct jw *w) { shallower(w, ']'); }

void jw_raw(struct jw *w, const char *name, struct pl_str json)
{
    member(w, name);
    pl_buf_str(w->b, json.p ? json : PL_STR("null"));
}

void jw_null(struct jw *w, const char *name) { jw_raw(w, name, PL_STR_NONE); }

void jw_str(struct jw *w, const char *name, struct pl_str s)
{
    if (!s.p) {
        jw_null(w, name);
        return;
    }
    member(w, name);
    pl_buf_json(w->b, s);
}

void jw_z(struct jw *w, const char *name, const char *s) { jw_str(w, name, pl_str_of(s)); }
void jw_bool(struct jw *w, const char *name, bool v) { jw_raw(w, name, v ? PL_STR("true") : PL_STR("false")); }

void jw_int(struct jw *w, const char *name, int64_t v)
{
    member(w, name);
    pl_buf_fmt(w->b, "%lld", (long long)v);
}

void jw_num(struct jw *w, const char *name, double v)
{
    if (!isfinite(v)) {
        jw_null(w, name);
        return;
    }
    member(w, name);
    pl_buf_fmt(w->b, "%.15g", v);
}

void jw_uuid(struct jw *w, const char *name, struct pl_uuid u)
{
    char text[PL_UUID_TEXT];
    pl_uuid_text(u, text);
    jw_z(w, name, pl_uuid_is_zero(u) ? NULL : text);
}

void jw_utc(struct jw *w, const char *name, struct pl_utc t)
{
    char text[PL_UTC_TEXT];
    pl_utc_text(t, text);
    jw_z(w, name, t.us ? text : NULL);
}

void jw_b64(struct jw *w, const char *name, const void *p, size_t n)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(n * 2 + 64);
    struct pl_str text = a ? pl_b64url(a, p, n) : PL_STR_NONE;
    if (!text.p)
        w->b->failed = true;
    jw_str(w, name, text);
}
