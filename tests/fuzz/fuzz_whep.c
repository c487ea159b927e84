/* WHEP and WHIP from the request on (S-M4, S-S10): any method, path, If-Match, token and body. First line "METHOD /path", second line If-Match, third Authorization (empty: none), the
 * rest is the body; "@" at the end of a path stands for an address that was really given out, "@" as If-Match for the ETag that goes with it. There is no database, so that what
 * needs one says `unavailable`. An address or a tag that was not given out opens nothing; what a relay would be told of an offer the relay takes. */
#include "fuzz.h"
#include "http_private.h"
#include "live_offer.h"
#include "relay_control.h"

#define LIVE "01890000-0000-7000-8000-000000000001"
static struct live_ctx ctx = { .clock = &pl_clock_system, .rand = &pl_rand_system, .way_key = { { 7 } } };
static const struct live_whose whose = { { { 1 } }, { { 2 } }, { { 0x01, 0x89, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 1 } } };
static const uint8_t certificate[32] = { 9 };

static struct live_way given_way(void)
{
    struct live_way way = { { { 3 } }, { { 4 } }, 5, { 0 } };
    live_way_mark(&ctx.way_key, way.viewer_id, PL_STR("gIVn"), way.mark);
    return way;
}

static struct http *engine(void)
{
    static struct http *h;
    struct http_conf conf = { .listen = "127.0.0.1:0", .workers = 1, .clock = &pl_clock_system, .rand = &pl_rand_system, .type_base = "https://x/" };
    if (!h)
        FUZZ_MUST(secure_init() == PL_OK && http_new(&conf, &h, NULL) == PL_OK && http_mount(h, live_whep_routes, &ctx) == PL_OK && http_mount(h, live_whip_routes, &ctx) == PL_OK);
    return h;
}

static struct pl_str line(struct pl_str *rest) { return pl_str_split(*rest, '\n', rest); }

static void add_header(struct call *call, struct pair *p, const char *name, struct pl_str value)
{
    *p = (struct pair){ pl_str_of(name), value, call->headers };
    if (value.n)
        call->headers = p;
}

/* What the relay would be told. */
static void check_told(struct pl_arena *a, struct pl_str text, bool publisher)
{
    struct live_web web;
    struct sdp_offer *offer;
    struct sdp_agreed agreed;
    struct pl_str answer;
    struct pl_fail fail = PL_FAIL_INIT;
    live_web_new(&pl_rand_system, &web);
    struct sdp_ours ours = live_web_ours(&pl_rand_system, &(struct live_web_facts){ .web = &web, .host = PL_STR("192.0.2.1"), .port = 50000, .name = PL_STR(LIVE),
        .fingerprint = { (const char *)certificate, sizeof certificate }, .video = PL_STR("H264/42c01f"), .audio = PL_STR("opus"), .talk = PL_STR("PCMU"), .publisher = publisher });
    if (sdp_read_offer(a, text, &offer, &fail) != PL_OK || sdp_answer(a, offer, &ours, &agreed, &answer, &fail) != PL_OK)
        return;
    struct pl_buf b = pl_buf_init(a, 8192);
    struct jw w = jw_start(&b);
    struct relay_post post;
    bool known = false;
    jw_open(&w, NULL);
    jw_z(&w, "type", publisher ? "session.open" : "viewer.add");
    jw_z(&w, "id", "1");
    jw_uuid(&w, "live_id", whose.live_id);
    jw_int(&w, "generation", 1);
    if (publisher) {
        jw_int(&w, "expires_in_ms", 1);
        jw_open(&w, "source");
    } else {
        jw_z(&w, "viewer_id", "1");
    }
    live_web_write(&w, &web, &agreed, publisher);
    if (publisher)
        jw_close(&w);
    jw_close(&w);
    FUZZ_MUST(pl_buf_err(&b) == PL_OK && relay_control_read(pl_buf_view(&b), a, &post, &known, &fail) == PL_OK && known);
    FUZZ_MUST(agreed.video.payload_type < 128 && agreed.audio.payload_type < 128 && agreed.talk.payload_type < 128 && agreed.rtx_payload_type < 128);
    FUZZ_MUST(agreed.peer_ufrag.n >= 4 && agreed.peer_ufrag.n <= 32 && pl_str_find(agreed.peer_ufrag, '"') == agreed.peer_ufrag.n);
}

static void check_reply(struct call *call, enum pl_err e, const struct pl_fail *fail, bool ours)
{
    char mem[PROBLEM_BYTES];
    struct pl_buf b = pl_buf_fixed(mem, sizeof mem);
    struct json_doc *d PL_CLEANUP(json_doc_freep) = NULL;
    if (e == PL_OK) { /* without a relay nothing but candidates of the ICE session that is named can have been taken */
        FUZZ_MUST(call->c.status == 204 && ours && http_header(&call->c, "If-Match").p);
        return;
    }
    http_problem(&b, call->h, e, fail, call->c.request_id);
    FUZZ_MUST(pl_buf_err(&b) == PL_OK && json_parse(pl_buf_view(&b), &d, NULL) == PL_OK);
}

/* Finds the row and runs its handler as a worker does. */
static void request(struct call *call, struct pl_str first, const struct pl_str *body)
{
    struct live_way way = given_way();
    struct pl_str path, given = live_way_text(call->c.arena, &ctx.way_key, &whose, &way);
    struct pl_str method = pl_str_split(first, ' ', &path);
    struct pl_fail fail = PL_FAIL_INIT;
    struct refusal taken = { .fail = PL_FAIL_INIT };
    bool ours = path.n && path.p[path.n - 1] == '@';
    if (ours)
        path = pl_fmt(call->c.arena, "%.*s%.*s", PL_FMT(((struct pl_str){ path.p, path.n - 1 })), PL_FMT(given));
    const char *m = pl_str_z(call->c.arena, method), *p = pl_str_z(call->c.arena, path);
    FUZZ_MUST(m && p);
    enum pl_err e = http_match(call, m, p, &taken, &fail);
    if (e != PL_OK || !call->row || (ours && call->row->route->method == HTTP_DELETE)) /* who may leave is said to the relay at once */
        return;
    call->c.self = call->row->self;
    call->c.actor.account_id = whose.account_id;
    call->c.actor.client_id = whose.client_id;
    call->c.body = body;
    call->c.buf = pl_buf_init(call->c.arena, 64 * 1024);
    check_reply(call, call->row->route->run(&call->c, &fail), &fail, ours);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct http *h = engine();
    struct link k = { .h = h, .peer = "192.0.2.1" };
    struct call *call = http_call_new(h, &k);
    struct pair if_match, authorization;
    struct pl_str body = { (const char *)data, size < SDP_TEXT_MAX ? size : SDP_TEXT_MAX };
    FUZZ_MUST(call != NULL);
    struct live_way way = given_way();
    struct pl_str first = line(&body), tag = line(&body), token = line(&body);
    if (pl_str_eqz(tag, "@"))
        tag = pl_fmt(call->c.arena, "\"%.*s\"", PL_FMT(pl_b64url(call->c.arena, way.mark, sizeof way.mark)));
    add_header(call, &if_match, "If-Match", tag);
    add_header(call, &authorization, "Authorization", token);
    request(call, first, &body);
    check_told(call->c.arena, body, false);
    check_told(call->c.arena, body, true);
    http_call_free(call);
    return 0;
}
