#include "conf.h"
#include <fcntl.h>
#include <unistd.h>

#define MAX_FILE (256 * 1024)

enum pl_err conf_duration(struct pl_str s, int64_t *ret_us)
{
    static const struct { const char *unit; int64_t us; } units[] = {
        { "ms", PL_MS }, { "s", PL_SECOND }, { "m", PL_MINUTE }, { "h", PL_HOUR }, { "d", PL_DAY } };
    size_t n = 0;
    while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
        n++;
    for (size_t i = 0; i < PL_COUNT(units); i++) {
        uint64_t v;
        if (!pl_str_eqz((struct pl_str){ s.p + n, s.n - n }, units[i].unit))
            continue;
        enum pl_err e = pl_parse_u64((struct pl_str){ s.p, n }, 0, (uint64_t)(INT64_MAX / units[i].us), &v);
        if (e == PL_OK)
            *ret_us = (int64_t)v * units[i].us;
        return e;
    }
    return PL_INVALID_REQUEST;
}

static const struct conf_row *row_find(const struct conf_row *rows, struct pl_str name)
{
    for (const struct conf_row *r = rows; r->type != CONF_T_END; r++)
        if (pl_str_eqz(name, r->name))
            return r;
    return NULL;
}

/* "a, b or c" */
static void put_words(struct pl_buf *b, const char *const *words)
{
    for (size_t i = 0; words[i]; i++) {
        pl_buf_z(b, i == 0 ? "" : words[i + 1] ? ", " : " or ");
        pl_buf_z(b, words[i]);
    }
}

static bool is_listen(struct pl_str v)
{
    uint32_t port;
    size_t colon = v.n;
    if (pl_str_starts(v, PL_STR("unix:")))
        return v.n > 6 && v.p[5] == '/';
    while (colon > 0 && v.p[colon - 1] != ':')
        colon--;
    return colon > 1 && pl_parse_u32((struct pl_str){ v.p + colon, v.n - colon }, 0, 65535, &port) == PL_OK;
}

/* What a text must look like, beyond its length. */
static enum pl_err str_check(const struct conf_row *r, struct pl_str v, struct pl_fail *reterr)
{
    char mem[160];
    struct pl_buf words = pl_buf_fixed(mem, sizeof mem);
    bool right = !r->one_of && (!r->begins || v.n == 0);
    for (size_t i = 0; r->one_of && r->one_of[i]; i++)
        right = right || pl_str_eqz(v, r->one_of[i]);
    for (size_t i = 0; r->begins && r->begins[i]; i++)
        right = right || pl_str_starts(v, pl_str_of(r->begins[i]));
    if (r->listens && !is_listen(v) && (v.n || r->dflt[0]))
        return pl_fail_field(reterr, PL_INVALID_REQUEST, r->name, "%s wants HOST:PORT, such as 127.0.0.1:8080, or unix:/PATH", r->name);
    if (right)
        return PL_OK;
    put_words(&words, r->one_of ? r->one_of : r->begins);
    return pl_fail_field(reterr, PL_INVALID_REQUEST, r->name, r->one_of ? "%s wants %.*s" : "%s wants an address that begins with %.*s", r->name, PL_FMT(pl_buf_view(&words)));
}

/* Edits between two names, counted in one row of the table. */
static size_t distance(struct pl_str a, const char *b)
{
    unsigned char row[64];
    size_t n = strlen(b);
    if (a.n >= sizeof row || n >= sizeof row)
        return SIZE_MAX;
    for (size_t k = 0; k <= n; k++)
        row[k] = (unsigned char)k;
    for (size_t i = 1; i <= a.n; i++) {
        unsigned char corner = row[0];
        row[0] = (unsigned char)i;
        for (size_t k = 1; k <= n; k++) {
            unsigned best = corner + (a.p[i - 1] != b[k - 1]);
            best = row[k] + 1u < best ? row[k] + 1u : best;
            best = row[k - 1] + 1u < best ? row[k - 1] + 1u : best;
            corner = row[k];
            row[k] = (unsigned char)best;
        }
    }
    return row[n];
}

static enum pl_err name_unknown(const struct conf_row *rows, struct pl_str name, struct pl_fail *reterr)
{
    const struct conf_row *near = NULL;
    size_t best = 1 + (name.n < 9 ? name.n / 3 : 3); /* what is farther is another word */
    for (const struct conf_row *r = rows; r->type != CONF_T_END; r++)
        if (distance(name, r->name) < best) {
            best = distance(name, r->name);
            near = r;
        }
    return pl_fail(reterr, PL_INVALID_REQUEST, "there is no setting \"%.*s\"%s%s", (int)(name.n > 60 ? 60 : name.n), name.p ? name.p : "", near ? ", but there is " : "",
                   near ? near->name : "");
}

/* Sets one row; the sentence of a refusal says what would have been right, and never repeats the value: it may be a secret. */
static enum pl_err row_set(const struct conf_row *r, void *settings, struct pl_str v, struct pl_arena *a, struct pl_fail *reterr)
{
    void *at = (char *)settings + r->offset;
    switch (r->type) {
    case CONF_T_STR: {
        if ((int64_t)v.n > r->hi)
            return pl_fail_field(reterr, PL_INVALID_REQUEST, r->name, "%s is longer than %lld bytes", r->name, (long long)r->hi);
        enum pl_err e = str_check(r, v, reterr);
        if (e != PL_OK)
            return e;
        struct pl_str copy = pl_str_dup(a, v);
        if (!copy.p)
            return PL_NO_MEMORY;
        *(struct pl_str *)at = copy;
        return PL_OK;
    }
    case CONF_T_NUM:
        if (pl_parse_i64(v, r->lo, r->hi, at) != PL_OK)
            return pl_fail_field(reterr, PL_INVALID_REQUEST, r->name, "%s wants a number from %lld to %lld", r->name, (long long)r->lo, (long long)r->hi);
        return PL_OK;
    case CONF_T_BOOL:
        if (!pl_str_eqz(v, "true") && !pl_str_eqz(v, "false"))
            return pl_fail_field(reterr, PL_INVALID_REQUEST, r->name, "%s wants true or false", r->name);
        *(bool *)at = pl_str_eqz(v, "true");
        return PL_OK;
    case CONF_T_DURATION: {
        int64_t us;
        if (conf_duration(v, &us) != PL_OK || us < r->lo || us > r->hi)
            return pl_fail_field(reterr, PL_INVALID_REQUEST, r->name, "%s wants a time such as 90s, 40m or 24h, from %llds to %llds", r->name,
                                 (long long)(r->lo / PL_SECOND), (long long)(r->hi / PL_SECOND));
        *(int64_t *)at = us;
        return PL_OK;
    }
    case CONF_T_END: break;
    }
    return PL_INTERNAL;
}

enum pl_err conf_set(const struct conf_row *rows, void *settings, struct pl_str name, struct pl_str value, struct pl_arena *a, struct pl_fail *reterr)
{
    const struct conf_row *r = row_find(rows, name);
    if (!r)
        return name_unknown(rows, name, reterr);
    return row_set(r, settings, value, a, reterr);
}

enum pl_err conf_defaults(const struct conf_row *rows, void *settings, struct pl_arena *a, struct pl_fail *reterr)
{
    for (const struct conf_row *r = rows; r->type != CONF_T_END; r++) {
        enum pl_err e = row_set(r, settings, pl_str_of(r->dflt), a, reterr);
        if (e != PL_OK)
            return e;
    }
    return PL_OK;
}

/* One line of a file: `name = value`, or nothing but a comment. *ret_row: the row that it set, NULL for none. */
static enum pl_err line_take(const struct conf_row *rows, void *settings, struct pl_str line, struct pl_arena *a, const struct conf_row **ret_row, struct pl_fail *reterr)
{
    struct pl_str comment, value;
    line = pl_str_trim(pl_str_split(line, '#', &comment));
    *ret_row = NULL;
    if (!line.n)
        return PL_OK;
    if (pl_str_find(line, '=') == line.n)
        return pl_fail(reterr, PL_INVALID_REQUEST, "wants `name = value`");
    struct pl_str name = pl_str_trim(pl_str_split(line, '=', &value));
    *ret_row = row_find(rows, name);
    return conf_set(rows, settings, name, pl_str_trim(value), a, reterr);
}

enum pl_err conf_parse(const struct conf_row *rows, void *settings, struct pl_str text, const char *where, struct pl_arena *a, struct pl_fail *reterr)
{
    uint64_t seen[4] = { 0 }; /* a bit a row that was given; 256 rows at most */
    enum pl_err e = conf_defaults(rows, settings, a, reterr);
    for (unsigned line = 1; e == PL_OK && text.n; line++) {
        struct pl_fail why = PL_FAIL_INIT;
        const struct conf_row *row;
        e = line_take(rows, settings, pl_str_split(text, '\n', &text), a, &row, &why);
        size_t i = row ? (size_t)(row - rows) % 256 : 0;
        if (e == PL_OK && row && seen[i / 64] & UINT64_C(1) << i % 64)
            e = pl_fail(&why, PL_INVALID_REQUEST, "%s stands twice", row->name);
        if (row)
            seen[i / 64] |= UINT64_C(1) << i % 64;
        if (e != PL_OK)
            return pl_fail_field(reterr, e, why.field, "%s:%u: %s", where, line, why.detail);
    }
    return e;
}

enum pl_err conf_load(const struct conf_row *rows, void *settings, const char *path, struct pl_arena *a, struct pl_fail *reterr)
{
    if (!path)
        return conf_defaults(rows, settings, a, reterr);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return pl_fail(reterr, PL_IO, "%s cannot be opened: %m", path);
    char *text = pl_alloc(a, MAX_FILE + 1);
    ssize_t n = 0, got = 1;
    while (text && got > 0 && n <= MAX_FILE) {
        got = read(fd, text + n, (size_t)(MAX_FILE + 1 - n));
        n += got > 0 ? got : 0;
    }
    close(fd);
    if (!text)
        return PL_NO_MEMORY;
    if (got < 0)
        return pl_fail(reterr, PL_IO, "%s cannot be read", path);
    if (n > MAX_FILE)
        return pl_fail(reterr, PL_INVALID_REQUEST, "%s is larger than 256 KiB", path);
    return conf_parse(rows, settings, (struct pl_str){ text, (size_t)n }, path, a, reterr);
}

void conf_sample(const struct conf_row *rows, struct pl_buf *out)
{
    for (const struct conf_row *r = rows; r->type != CONF_T_END; r++) {
        pl_buf_fmt(out, "# %s", r->doc);
        if (r->type == CONF_T_NUM)
            pl_buf_fmt(out, " %lld to %lld.", (long long)r->lo, (long long)r->hi);
        pl_buf_fmt(out, "\n#%s = %s\n\n", r->name, r->dflt);
    }
}
