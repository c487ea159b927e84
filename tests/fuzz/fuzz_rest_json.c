/* S-M4: what strangers write into a REST request: the path and its parameters, and the JSON body by its table. First line "METHOD /path", the rest is the body.
 * Besides not crashing: a parameter that is let through is UTF-8 without control characters, whatever is taken from a body can be written as JSON that parses
 * again, and every refusal makes a problem that parses. */
#include "fuzz.h"
#include "http_private.h"

struct part {
    struct pl_str serial;
    bool online;
};
struct body {
    struct pl_str name, email, phone, pin, country, serial, key, raw;
    struct pl_uuid id;
    struct pl_utc at;
    int64_t count;
    bool has_count, flag;
    double ratio;
    int kind;
    struct part part;
    struct json_list parts, words;
};
static const char *const kinds[] = { "hub", "camera", NULL };
static const struct json_field part_fields[] = { JSON_F(struct part, serial, J_SERIAL, J_REQUIRED), JSON_F(struct part, online, J_BOOL, J_OPTIONAL), J_END };
static const struct json_field fields[] = {
    JSON_F(struct body, name, J_STR, J_OPTIONAL, .lo = 1, .hi = 40),
    JSON_F(struct body, email, J_EMAIL, J_OPTIONAL),
    JSON_F(struct body, phone, J_PHONE, J_OPTIONAL),
    JSON_F(struct body, pin, J_PIN, J_OPTIONAL),
    JSON_F(struct body, country, J_COUNTRY, J_OPTIONAL),
    JSON_F(struct body, serial, J_SERIAL, J_OPTIONAL),
    JSON_F(struct body, key, J_B64, J_OPTIONAL, .lo = 1, .hi = 64),
    JSON_F(struct body, raw, J_RAW, J_OPTIONAL, .hi = 2000),
    JSON_F(struct body, id, J_UUID, J_OPTIONAL),
    JSON_F(struct body, at, J_TIME, J_OPTIONAL),
    JSON_OPT(struct body, count, J_INT, .lo = -5, .hi = 5),
    JSON_F(struct body, flag, J_BOOL, J_OPTIONAL),
    JSON_F(struct body, ratio, J_NUM, J_OPTIONAL),
    JSON_F(struct body, kind, J_ENUM, J_OPTIONAL, .words = kinds),
    JSON_F(struct body, part, J_OBJECT, J_OPTIONAL, .fields = part_fields),
    JSON_F(struct body, parts, J_ARRAY, J_OPTIONAL, .fields = part_fields, .size = sizeof(struct part), .hi = 4),
    JSON_F(struct body, words, J_STRS, J_OPTIONAL, .hi = 4),
    J_END,
};

static enum pl_err nothing(struct http_call *c, struct pl_fail *reterr)
{
    (void)c, (void)reterr;
    return PL_OK;
}
static const struct http_route routes[] = {
    { HTTP_POST, "/v1/systems/{id}/cameras", HTTP_PUBLIC, nothing, "Add", HTTP_BODY(struct body, fields) },
    { HTTP_POST, "/v1/systems", HTTP_PUBLIC, nothing, "Make", HTTP_BODY(struct body, fields) },
    { HTTP_GET, "/v1/sessions/{id}", HTTP_PUBLIC, nothing, "Look" },
    { HTTP_GET, "/v1/sessions/current", HTTP_PUBLIC, nothing, "Look here" },
    { HTTP_DELETE, "/v1/{a}/{b}/{c}/{d}", HTTP_PUBLIC, nothing, "Four" },
    HTTP_END,
};

static void must_parse(const struct pl_buf *b)
{
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    FUZZ_MUST(pl_buf_err(b) == PL_OK && json_parse(pl_buf_view(b), &d, NULL) == PL_OK);
}

static void check_written(const struct body *b, struct pl_arena *a)
{
    struct pl_buf out = pl_buf_init(a, 256 * 1024);
    struct jw w = jw_start(&out);
    jw_open(&w, NULL);
    jw_str(&w, "name", b->name);
    jw_str(&w, "email", b->email);
    jw_str(&w, "serial", b->serial);
    jw_raw(&w, "raw", b->raw);
    jw_uuid(&w, "id", b->id);
    jw_utc(&w, "at", b->at);
    jw_num(&w, "ratio", b->ratio);
    jw_array(&w, "parts");
    for (size_t i = 0; i < b->parts.n; i++)
        jw_str(&w, NULL, ((const struct part *)b->parts.items)[i].serial);
    for (size_t i = 0; i < b->words.n; i++)
        jw_str(&w, NULL, ((const struct pl_str *)b->words.items)[i]);
    jw_end_array(&w);
    jw_close(&w);
    must_parse(&out);
    FUZZ_MUST(!b->name.p || (pl_str_is_utf8(b->name) && pl_str_codepoints(b->name) <= 40));
    FUZZ_MUST(!b->pin.p || b->pin.n == 6);
    FUZZ_MUST(!b->key.p || b->key.n <= 64);
    FUZZ_MUST(b->parts.n <= 4 && b->words.n <= 4 && b->kind >= 0 && b->kind < 2);
    FUZZ_MUST(!b->has_count || (b->count >= -5 && b->count <= 5));
}

static void check_refusal(struct call *call, enum pl_err e, const struct pl_fail *fail)
{
    char mem[PROBLEM_BYTES];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    http_problem(&b, call->h, e, fail, call->c.request_id);
    must_parse(&b);
}

static enum pl_err match(struct call *call, struct pl_str line, struct pl_fail *fail)
{
    struct pl_str path;
    struct pl_str method = pl_str_split(line, ' ', &path);
    const char *m = pl_str_z(call->c.arena, method), *p = pl_str_z(call->c.arena, path);
    struct refusal taken = { .fail = PL_FAIL_INIT };
    FUZZ_MUST(m && p);
    enum pl_err e = http_match(call, m, p, &taken, fail);
    for (unsigned i = 0; e == PL_OK && call->row && i < MAX_PARAMS; i++)
        FUZZ_MUST(!call->params[i].p || (call->params[i].n && pl_str_is_utf8(call->params[i])));
    return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http *h;
    struct pl_fail fail = PL_FAIL_INIT;
    struct body body = { 0 };
    struct pl_str text;
    if (!h) {
        struct http_conf conf = { .listen = "127.0.0.1:0", .workers = 1, .clock = &pl_clock_system, .rand = &pl_rand_system, .type_base = "https://x/" };
        FUZZ_MUST(http_new(&conf, &h, NULL) == PL_OK);
        FUZZ_MUST(http_mount(h, routes, NULL) == PL_OK);
    }
    struct link k = { .h = h, .peer = "192.0.2.1" };
    struct call *call = http_call_new(h, &k);
    struct pl_str line = pl_str_split((struct pl_str){ (const char *)data, size < 64 * 1024 ? size : 64 * 1024 }, '\n', &text);
    FUZZ_MUST(call != NULL);
    enum pl_err e = match(call, line, &fail);
    if (e == PL_OK && call->row && call->row->route->fields) {
        e = json_take(fields, JSON_STRICT, text, call->c.arena, &body, &fail);
        if (e == PL_OK)
            check_written(&body, call->c.arena);
    }
    if (e != PL_OK)
        check_refusal(call, e, &fail);
    http_call_free(call);
    return 0;
}
