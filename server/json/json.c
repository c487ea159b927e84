#include "json.h"
#include "mem.h"
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>

#define MAX_TEXT (4 * 1024 * 1024)
#define MAX_DEPTH 16

struct json_doc {
    json_t *root;
};

/* jansson's scanner goes on when it is refused memory for the text of a string, and then copies past the end of what it has (2.14, lex_save). So a refusal ends the
 * parsing at once, and what had been handed out for it is on a list. */
struct part {
    struct part *prev, *next;
    max_align_t bytes[];
};
static _Thread_local struct {
    bool on;
    struct part *parts;
    jmp_buf end;
} parsing;

static void *take_part(size_t n)
{
    struct part *p = n <= 8 * MAX_TEXT + sizeof *p ? pl_heap(sizeof *p + n) : NULL; /* its buffers double; a table has 8 bytes for each value of 2 */
    if (!parsing.on)
        return p ? p->bytes : NULL;
    if (!p)
        longjmp(parsing.end, 1);
    p->next = parsing.parts;
    if (p->next)
        p->next->prev = p;
    parsing.parts = p;
    return p->bytes;
}

static void give_part(void *bytes)
{
    if (!bytes)
        return;
    struct part *p = (struct part *)((char *)bytes - offsetof(struct part, bytes));
    if (parsing.on && p->next)
        p->next->prev = p->prev;
    if (parsing.on && p->prev)
        p->prev->next = p->next;
    if (parsing.on && parsing.parts == p)
        parsing.parts = p->next;
    pl_heap_free(p);
}

static void use_parts(void) { json_set_alloc_funcs(take_part, give_part); }

/* *ret: NULL when it is no JSON, and `why` says it. */
static enum pl_err load(struct pl_str text, json_t **ret, json_error_t *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_parts);
    parsing.parts = NULL;
    parsing.on = true;
    if (setjmp(parsing.end) != 0) {
        parsing.on = false;
        for (struct part *p = parsing.parts, *next; p; p = next) {
            next = p->next;
            pl_heap_free(p);
        }
        return PL_NO_MEMORY;
    }
    *ret = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, why);
    parsing.on = false;
    return PL_OK;
}

/* jansson recurses: depth is bounded before it sees the text. Strings are skipped, so brackets inside them do not count. */
static bool too_deep(struct pl_str t)
{
    unsigned depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < t.n; i++) {
        char c = t.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"')
            in_string = true;
        else if ((c == '{' || c == '[') && ++depth > MAX_DEPTH)
            return true;
        else if ((c == '}' || c == ']') && depth)
            depth--;
    }
    return false;
}

enum pl_err json_parse(struct pl_str text, struct json_doc **ret, struct pl_fail *reterr)
{
    json_error_t why;
    if (text.n > MAX_TEXT || too_deep(text))
        return pl_fail(reterr, PL_INVALID_REQUEST, "The JSON is too large or nested more than %d deep.", MAX_DEPTH);
    json_t *root = NULL;
    enum pl_err e = load(text, &root, &why);
    if (e != PL_OK)
        return e;
    if (!json_is_object(root)) {
        bool parsed = root != NULL;
        json_decref(root);
        if (parsed)
            return pl_fail(reterr, PL_INVALID_REQUEST, "A JSON object is expected.");
        return pl_fail(reterr, PL_INVALID_REQUEST, "This is not valid JSON (line %d, column %d).", why.line, why.column);
    }
    struct json_doc *d = pl_heap(sizeof *d);
    if (!d) {
        json_decref(root);
        return PL_NO_MEMORY;
    }
    d->root = root;
    *ret = d;
    return PL_OK;
}

void json_doc_freep(struct json_doc **d)
{
    if (*d)
        json_decref((*d)->root);
    *d = pl_heap_free(*d);
}

struct pl_str json_doc_str(const struct json_doc *d, const char *name)
{
    json_t *v = json_object_get(d->root, name);
    return json_is_string(v) ? (struct pl_str){ json_string_value(v), json_string_length(v) } : PL_STR_NONE;
}

enum pl_err json_doc_int(const struct json_doc *d, const char *name, int64_t *ret)
{
    json_t *v = json_object_get(d->root, name);
    if (!json_is_integer(v))
        return PL_INVALID_REQUEST;
    *ret = json_integer_value(v);
    return PL_OK;
}

static enum pl_err raw_text(const json_t *v, struct pl_arena *a, size_t most, struct pl_str *ret)
{
    size_t n = json_dumpb(v, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
    if (n > most)
        return PL_INVALID_REQUEST;
    char *p = pl_alloc(a, n + 1);
    if (!p)
        return PL_NO_MEMORY;
    json_dumpb(v, p, n, JSON_COMPACT | JSON_ENCODE_ANY);
    *ret = (struct pl_str){ p, n };
    return PL_OK;
}

struct pl_str json_doc_raw(const struct json_doc *d, const char *name, struct pl_arena *a)
{
    json_t *v = json_object_get(d->root, name);
    struct pl_str out = PL_STR_NONE;
    if (!v || raw_text(v, a, MAX_TEXT, &out) != PL_OK)
        return PL_STR_NONE;
    return out;
}

/* One use of a table: where errors go and where strings are copied. */
struct taker {
    struct pl_arena *a;
    enum json_mode mode;
    struct pl_fail *fail;
    char path[64]; /* of the member that is looked at, "cameras.serial" */
};

static enum pl_err wrong(struct taker *t, const char *wants) { return pl_fail_field(t->fail, PL_INVALID_REQUEST, t->path, "%s: %s", t->path, wants); }

static enum pl_err copy(struct taker *t, struct pl_str s, struct pl_str *at)
{
    *at = pl_str_dup(t->a, s);
    return at->p ? PL_OK : PL_NO_MEMORY;
}

static enum pl_err take_email(struct taker *t, struct pl_str s, struct pl_str *at)
{
    struct pl_str domain, lower = pl_str_lower(t->a, pl_str_trim(s));
    if (!lower.p)
        return PL_NO_MEMORY;
    struct pl_str local = pl_str_split(lower, '@', &domain);
    bool good = local.n >= 1 && local.n <= 64 && lower.n <= 254 && domain.n >= 3 && pl_str_find(domain, '@') == domain.n;
    size_t dot = pl_str_find(domain, '.');
    good = good && dot > 0 && dot + 1 < domain.n && domain.p[domain.n - 1] != '.';
    for (size_t i = 0; good && i < lower.n; i++)
        good = (unsigned char)lower.p[i] > ' ' && lower.p[i] != 0x7f && !strchr("<>()[],;:\\\"", lower.p[i]);
    if (!good)
        return wrong(t, "an e-mail address is expected");
    *at = lower;
    return PL_OK;
}

static bool all_digits(struct pl_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
    return true;
}

static enum pl_err take_serial(struct taker *t, struct pl_str s, struct pl_str *at)
{
    char *p = pl_alloc(t->a, s.n + 1);
    size_t n = 0;
    if (!p)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '-' || c == ' ')
            continue;
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
            return wrong(t, "a serial number has only letters and digits");
        p[n++] = c;
    }
    if (n < 8 || n > 32)
        return wrong(t, "a serial number has 8 to 32 letters and digits");
    *at = (struct pl_str){ p, n };
    return PL_OK;
}

static enum pl_err take_b64(struct taker *t, const struct json_field *f, struct pl_str s, struct pl_str *at)
{
    size_t n, cap = s.n / 4 * 3 + 3;
    char *p = pl_alloc(t->a, cap);
    if (!p)
        return PL_NO_MEMORY;
    if (pl_unb64url_any(s, p, cap, &n) != PL_OK || (int64_t)n < f->lo || (int64_t)n > (f->hi ? f->hi : 1024))
        return wrong(t, "base64url of the documented size is expected");
    *at = (struct pl_str){ p, n };
    return PL_OK;
}

static enum pl_err take_words(struct taker *t, const struct json_field *f, struct pl_str s, int *at)
{
    char wants[160] = "one of these is expected:";
    for (int i = 0; f->words[i]; i++) {
        size_t n = strlen(wants);
        if (pl_str_eqz(s, f->words[i])) {
            *at = i;
            return PL_OK;
        }
        snprintf(wants + n, sizeof wants - n, " %s", f->words[i]);
    }
    return wrong(t, wants);
}

static enum pl_err take_string(struct taker *t, const struct json_field *f, struct pl_str s, void *at)
{
    size_t points = pl_str_codepoints(s);
    switch (f->type) {
    case J_STR: {
        char wants[80];
        int64_t hi = f->hi ? f->hi : 256;
        if ((int64_t)points >= f->lo && (int64_t)points <= hi)
            return copy(t, s, at);
        snprintf(wants, sizeof wants, "a text of %lld to %lld characters is expected", (long long)f->lo, (long long)hi);
        return wrong(t, wants);
    }
    case J_UUID: return pl_uuid_parse(s, at) == PL_OK ? PL_OK : wrong(t, "a UUID is expected");
    case J_EMAIL: return take_email(t, s, at);
    case J_PHONE:
        if (s.n < 8 || s.n > 16 || s.p[0] != '+' || s.p[1] == '0' || !all_digits((struct pl_str){ s.p + 1, s.n - 1 }))
            return wrong(t, "a phone number like +4366412345678 is expected");
        return copy(t, s, at);
    case J_PIN: return s.n == 6 && all_digits(s) ? copy(t, s, at) : wrong(t, "six digits are expected");
    case J_COUNTRY:
        if (s.n != 2 || s.p[0] < 'A' || s.p[0] > 'Z' || s.p[1] < 'A' || s.p[1] > 'Z')
            return wrong(t, "a country code like AT is expected");
        return copy(t, s, at);
    case J_SERIAL: return take_serial(t, s, at);
    case J_TIME: return pl_utc_parse(s, at) == PL_OK ? PL_OK : wrong(t, "a time like 2026-11-21T08:58:00Z is expected");
    case J_B64: return take_b64(t, f, s, at);
    case J_ENUM: return take_words(t, f, s, at);
    default: return PL_INTERNAL;
    }
}

static enum pl_err take_object(struct taker *t, const struct json_field *fields, const json_t *o, void *out);

static enum pl_err take_list(struct taker *t, const struct json_field *f, const json_t *v, struct json_list *at)
{
    size_t n = json_array_size(v), size = f->type == J_STRS ? sizeof(struct pl_str) : f->size;
    if (!json_is_array(v) || (int64_t)n > f->hi)
        return wrong(t, "a list of at most the documented length is expected");
    char *items = pl_alloc_array(t->a, n ? n : 1, size);
    if (!items)
        return PL_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(v, i);
        enum pl_err e;
        if (f->type == J_ARRAY)
            e = json_is_object(item) ? take_object(t, f->fields, item, items + i * size) : wrong(t, "a list of objects is expected");
        else if (json_is_string(item) && json_string_length(item) <= 256)
            e = copy(t, (struct pl_str){ json_string_value(item), json_string_length(item) }, (struct pl_str *)(void *)(items + i * size));
        else
            e = wrong(t, "a list of short texts is expected");
        if (e != PL_OK)
            return e;
    }
    *at = (struct json_list){ items, n };
    return PL_OK;
}

static enum pl_err take_value(struct taker *t, const struct json_field *f, const json_t *v, void *at)
{
    switch (f->type) {
    case J_INT: {
        char wants[80];
        if (json_is_integer(v) && json_integer_value(v) >= f->lo && json_integer_value(v) <= (f->hi ? f->hi : INT64_MAX)) {
            *(int64_t *)at = json_integer_value(v);
            return PL_OK;
        }
        snprintf(wants, sizeof wants, "a whole number from %lld to %lld is expected", (long long)f->lo, (long long)(f->hi ? f->hi : INT64_MAX));
        return wrong(t, wants);
    }
    case J_NUM:
        if (!json_is_number(v) || !isfinite(json_number_value(v)))
            return wrong(t, "a number is expected");
        *(double *)at = json_number_value(v);
        return PL_OK;
    case J_BOOL:
        if (!json_is_boolean(v))
            return wrong(t, "true or false is expected");
        *(bool *)at = json_is_true(v);
        return PL_OK;
    case J_OBJECT: return json_is_object(v) ? take_object(t, f->fields, v, at) : wrong(t, "an object is expected");
    case J_ARRAY:
    case J_STRS: return take_list(t, f, v, at);
    case J_RAW: {
        enum pl_err e = raw_text(v, t->a, f->hi ? (size_t)f->hi : 16384, at);
        return e == PL_INVALID_REQUEST ? wrong(t, "this is larger than it may be") : e;
    }
    default:
        if (!json_is_string(v))
            return wrong(t, "a text is expected");
        return take_string(t, f, (struct pl_str){ json_string_value(v), json_string_length(v) }, at);
    }
}

static const struct json_field *field_find(const struct json_field *fields, const char *name)
{
    for (const struct json_field *f = fields; f->type != J_T_END; f++)
        if (strcmp(f->name, name) == 0)
            return f;
    return NULL;
}

/* Appends ".name" to the path for the time of one member; returns where to cut it again. */
static size_t path_down(struct taker *t, const char *name)
{
    size_t n = strlen(t->path);
    snprintf(t->path + n, sizeof t->path - n, "%s%.40s", n ? "." : "", name);
    return n;
}

static enum pl_err take_object(struct taker *t, const struct json_field *fields, const json_t *o, void *out)
{
    for (const struct json_field *f = fields; f->type != J_T_END; f++) {
        const json_t *v = json_object_get(o, f->name);
        size_t up = path_down(t, f->name);
        enum pl_err e = PL_OK;
        /* null stands for "absent", except where any value is taken. */
        bool there = v && !(json_is_null(v) && f->type != J_RAW);
        if (there)
            e = take_value(t, f, v, (char *)out + f->offset);
        else if (f->required)
            e = wrong(t, "this is required");
        if (f->has)
            *(bool *)((char *)out + f->has - 1) = there;
        if (e != PL_OK)
            return e;
        t->path[up] = '\0';
    }
    if (t->mode == JSON_LENIENT)
        return PL_OK;
    for (void *it = json_object_iter((json_t *)o); it; it = json_object_iter_next((json_t *)o, it))
        if (!field_find(fields, json_object_iter_key(it))) {
            path_down(t, json_object_iter_key(it));
            return wrong(t, "this field is not known here");
        }
    return PL_OK;
}

enum pl_err json_doc_take(const struct json_doc *d, const struct json_field *fields, enum json_mode mode, struct pl_arena *a, void *out, struct pl_fail *reterr)
{
    struct taker t = { .a = a, .mode = mode, .fail = reterr };
    return take_object(&t, fields, d->root, out);
}

enum pl_err json_take(const struct json_field *fields, enum json_mode mode, struct pl_str text, struct pl_arena *a, void *out, struct pl_fail *reterr)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    enum pl_err e = json_parse(text, &d, reterr);
    return e == PL_OK ? json_doc_take(d, fields, mode, a, out, reterr) : e;
}
