/* SDP: any bytes as an offer of a viewer, of a publisher, and as a fragment (S-M4). What is answered is an SDP text with the offer's lines in the offer's order (RFC 3264, 6), of
 * the payload types and ids that were offered; what is refused has a name. */
#include "fuzz.h"
#include "sdp.h"

static const struct sdp_ours viewer = {
    .prefer_active = true, .session_id = 1, .version = 1, .ufrag = PL_STR_INIT("OurUfrag"), .pwd = PL_STR_INIT("OurPasswordOf32CharactersInLength"),
    .candidates = { { PL_STR_INIT("203.0.113.7"), 50000 } }, .n_candidates = 1, .cname = PL_STR_INIT("c"), .msid = PL_STR_INIT("m"), .video_ssrc = 1, .rtx_ssrc = 2, .audio_ssrc = 3,
    .h264_profile = 0x640028, .audio = SDP_MASK(SDP_OPUS), .talk = SDP_MASK(SDP_PCMU), .rtx = true, .transport_cc = true, .remb = true,
};

static const struct sdp_codec *codec(const struct sdp_line *l, uint8_t payload_type)
{
    for (size_t i = 0; i < l->n_codecs; i++)
        if (l->codecs[i].payload_type == payload_type)
            return &l->codecs[i];
    return NULL;
}

static void check_line(const struct sdp_line *offered, const struct sdp_line *said)
{
    FUZZ_MUST(pl_str_eq(said->media, offered->media) && pl_str_eq(said->proto, offered->proto) && pl_str_eq(said->mid, offered->mid));
    if (!said->usable) {
        FUZZ_MUST(said->way == 0);
        return;
    }
    FUZZ_MUST(offered->usable && said->rtcp_mux && said->transport.fingerprints_n == 1 && said->transport.setup_there && said->n_codecs > 0);
    FUZZ_MUST(!(said->way & SDP_PEER_SENDS && !(offered->way & SDP_PEER_RECEIVES)) && !(said->way & SDP_PEER_RECEIVES && !(offered->way & SDP_PEER_SENDS)));
    for (size_t i = 0; i < said->n_codecs; i++) {
        const struct sdp_codec *c = codec(offered, said->codecs[i].payload_type);
        FUZZ_MUST(c && c->name == said->codecs[i].name && !(said->codecs[i].feedback & ~c->feedback));
    }
    for (size_t e = 0; e < SDP_EXTS; e++)
        FUZZ_MUST(said->ext[e] == 0 || said->ext[e] == offered->ext[e]);
}

static void check_track(const struct sdp_offer *o, const struct sdp_offer *said, const struct sdp_track *t)
{
    if (t->served)
        FUZZ_MUST(t->line < o->n_lines && said->lines[t->line].usable && codec(&said->lines[t->line], t->payload_type)->name == t->codec);
}

static void answer(struct pl_arena *a, struct pl_str text, const struct sdp_ours *ours)
{
    struct sdp_offer *o, *said;
    struct sdp_agreed agreed;
    struct pl_str out;
    struct pl_fail fail = PL_FAIL_INIT;
    enum pl_err e = sdp_read_offer(a, text, &o, &fail);
    if (e == PL_OK)
        e = sdp_answer(a, o, ours, &agreed, &out, &fail);
    FUZZ_MUST(e == PL_OK || ((e == PL_INVALID_REQUEST || e == PL_OFFER_REFUSED || e == PL_UNSUPPORTED_MEDIA) && fail.field[0]));
    if (e != PL_OK)
        return;
    FUZZ_MUST(sdp_read_offer(a, out, &said, &fail) == PL_OK && said->n_lines == o->n_lines && said->ice_lite);
    for (size_t i = 0; i < o->n_lines; i++)
        check_line(&o->lines[i], &said->lines[i]);
    FUZZ_MUST(agreed.video.served || agreed.audio.served);
    FUZZ_MUST(agreed.peer_ufrag.n >= 4 && agreed.peer_ufrag.n <= 32);
    FUZZ_MUST(agreed.audio.served == !agreed.audio_refused && agreed.talk.served == !agreed.talk_refused);
    check_track(o, said, &agreed.video);
    check_track(o, said, &agreed.audio);
    check_track(o, said, &agreed.talk);
}

static void fragment(struct pl_arena *a, struct pl_str text)
{
    struct sdp_fragment f, again;
    struct pl_str out;
    struct pl_fail fail = PL_FAIL_INIT;
    if (sdp_read_fragment(a, text, &f, &fail) != PL_OK)
        return;
    FUZZ_MUST(sdp_answer_fragment(a, &f, &viewer, &out) == PL_OK);
    FUZZ_MUST(sdp_read_fragment(a, out, &again, &fail) == PL_OK && pl_str_eq(again.ufrag, viewer.ufrag) && pl_str_eq(again.mid, f.mid));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_arena *a PL_CLEANUP(pl_arena_freep) = pl_arena_new(4 << 20);
    struct pl_str text = { (const char *)data, size };
    struct sdp_ours publisher = viewer;
    publisher.publisher = true;
    publisher.rtx = publisher.prefer_active = false;
    publisher.audio = publisher.talk = SDP_MASK(SDP_OPUS) | SDP_MASK(SDP_PCMU) | SDP_MASK(SDP_PCMA);
    FUZZ_MUST(a);
    answer(a, text, &viewer);
    answer(a, text, &publisher);
    fragment(a, text);
    return 0;
}
