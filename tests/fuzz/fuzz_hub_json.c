/* What strangers write to the WebSocket port (S-M4): the request that the door looks at, and the messages of a protocol. An input that begins with a capital
 * letter is a request, any other is a message. Besides not crashing: the door lets in only what is whole, and a message either fills its row's struct within
 * the row's bounds in a permitted phase, or is answered with an error that parses. */
#include "fuzz.h"
#include "link_int.h"

struct camera {
    struct pl_str serial, firmware;
    bool online;
    double battery;
};
struct running {
    struct pl_uuid live_id;
    int64_t generation;
};
struct boot {
    struct pl_uuid id;
    int reason;
    int64_t reset_count;
};
struct hello {
    struct pl_str serial, key_id, signature, extra;
    int role;
    struct boot boot;
    struct json_list suites, cameras, running_sessions;
};
static const char *const roles[] = { "hub", "camera", NULL }, *const reasons[] = { "power", "reboot", "update", NULL };
static const struct json_field camera_fields[] = {
    JSON_F(struct camera, serial, J_SERIAL, J_REQUIRED), JSON_F(struct camera, firmware, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(struct camera, online, J_BOOL, J_OPTIONAL), JSON_F(struct camera, battery, J_NUM, J_OPTIONAL), J_END };
static const struct json_field running_fields[] = {
    JSON_F(struct running, live_id, J_UUID, J_REQUIRED), JSON_F(struct running, generation, J_INT, J_REQUIRED, .lo = 1), J_END };
static const struct json_field boot_fields[] = {
    JSON_F(struct boot, id, J_UUID, J_REQUIRED), JSON_F(struct boot, reason, J_ENUM, J_REQUIRED, .words = reasons),
    JSON_F(struct boot, reset_count, J_INT, J_OPTIONAL, .lo = 0), J_END };
static const struct json_field hello_fields[] = {
    JSON_F(struct hello, serial, J_SERIAL, J_REQUIRED),
    JSON_F(struct hello, key_id, J_STR, J_OPTIONAL, .hi = 64),
    JSON_F(struct hello, role, J_ENUM, J_REQUIRED, .words = roles),
    JSON_F(struct hello, boot, J_OBJECT, J_OPTIONAL, .fields = boot_fields),
    JSON_F(struct hello, suites, J_STRS, J_OPTIONAL, .hi = 4),
    JSON_F(struct hello, cameras, J_ARRAY, J_OPTIONAL, .fields = camera_fields, .size = sizeof(struct camera), .hi = 10),
    JSON_F(struct hello, running_sessions, J_ARRAY, J_OPTIONAL, .fields = running_fields, .size = sizeof(struct running), .hi = 16),
    JSON_F(struct hello, extra, J_RAW, J_OPTIONAL, .hi = 500),
    JSON_F(struct hello, signature, J_B64, J_REQUIRED, .lo = 64, .hi = 64),
    J_END };
static enum pl_err nothing(struct link_call *c, struct pl_fail *reterr)
{
    (void)c, (void)reterr;
    return PL_OK;
}
static const struct link_message messages[] = {
    { "hello", LINK_NEW, hello_fields, sizeof(struct hello), nothing, false },
    { "status", LINK_READY, camera_fields, sizeof(struct camera), nothing, true },
    { "ping", LINK_NEW | LINK_READY, NULL, 0, nothing, false },
    LINK_END };
static const struct link_table tables[] = { { messages, NULL }, { NULL, NULL } };
static const struct link_protocol protocols[] = {
    { .name = "porchlight.hub.v1", .path = "/hub/v1", .tables = tables }, { .name = "porchlight.relay.v1", .path = "/relay/v1" }, { .name = NULL } };

static void request(struct pl_str head)
{
    const struct link_protocol *p = NULL;
    enum pl_err e = link_door_route(protocols, head, &p);
    FUZZ_MUST((e == PL_OK) == (p != NULL));
    FUZZ_MUST(e != PL_OK || (memmem(head.p, head.n, "\r\n\r\n", 4) && memmem(head.p, head.n, p->name, strlen(p->name)) && pl_str_starts(head, PL_STR("GET /"))));
    FUZZ_MUST(e != PL_SHORT || head.n < 4096);
}

static void refusal(struct pl_str id, enum pl_err e, const struct pl_fail *fail)
{
    char mem[LINK_ERROR_BYTES];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    struct json_doc *doc PL_CLEANUP(json_doc_freep) = NULL;
    link_message_error(&b, id, e, fail);
    FUZZ_MUST(pl_buf_err(&b) == PL_OK && json_parse(pl_buf_view(&b), &doc, NULL) == PL_OK);
    FUZZ_MUST(pl_str_eqz(json_doc_str(doc, "type"), "error") && json_doc_str(doc, "detail").n > 0);
}

static void message(uint32_t phase, struct pl_str text)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(LINK_ARENA);
    struct link_parsed m PL_CLEANUP(link_parsed_done) = { 0 };
    struct pl_fail fail = PL_FAIL_INIT;
    if (!a)
        return;
    enum pl_err e = link_message_parse(&protocols[0], phase, text, a, &m, &fail);
    FUZZ_MUST(e == PL_OK || e == PL_PROTOCOL || e == PL_NO_MEMORY);
    if (e != PL_OK) {
        FUZZ_MUST(!m.row);
        refusal(m.id, e, &fail);
        return;
    }
    if (!m.row)
        return;
    FUZZ_MUST(m.row->phases & phase);
    if (m.row != &messages[0])
        return;
    const struct hello *h = m.msg;
    FUZZ_MUST(h->serial.n >= 8 && h->serial.n <= 32 && h->signature.n == 64 && h->role >= 0 && h->role < 2);
    FUZZ_MUST(h->cameras.n <= 10 && h->suites.n <= 4 && h->running_sessions.n <= 16 && (!h->key_id.p || pl_str_is_utf8(h->key_id)));
    for (size_t i = 0; i < h->running_sessions.n; i++)
        FUZZ_MUST(((const struct running *)h->running_sessions.items)[i].generation >= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_str in = { (const char *)data, size };
    if (size > 0 && data[0] >= 'A' && data[0] <= 'Z')
        request(in);
    else {
        message(LINK_NEW, in);
        message(LINK_READY, in);
    }
    return 0;
}
