/* bench-limit evp|ipsec-mb|libsrtp SESSIONS VIEWERS: the machine's own limit for forwarding SRTP, against which the relay is measured in the same run.
 * The least that can be done: recvmmsg of 32 messages (UDP_GRO: each what one sender sent in a row) into memory that stays in cache, verify in place once, per viewer a new
 * header and AES-128-GCM straight into its send buffer, one UDP_SEGMENT send per viewer and run, one cipher context a direction with only the IV set per packet, no replay window,
 * no ring, no timers. */
#include "gcm.h"
#include "relay_bench.h"
#include "rtp.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <openssl/evp.h>
#include <srtp2/srtp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { BATCH = 32, SLOT = 65536 + 1280, RUN = 50 /* packets of one send, which holds 64 KiB */, MAX_SESSIONS = 256, MAX_VIEWERS = 10, TAG = 16 };

struct crypt { /* one direction of one leg */
    EVP_CIPHER_CTX *evp;
    struct gcm *mb;
    srtp_t srtp;
    uint8_t salt[12];
    uint32_t roc;
    uint16_t last;
};
struct leg {
    struct bench_leg id;
    struct ice_cred ice;
    struct ice_seen seen;
    struct crypt crypt;
    struct sockaddr_in to;
    uint16_t seq;
};
static struct leg sources[MAX_SESSIONS], viewers[MAX_SESSIONS][MAX_VIEWERS];
static unsigned sessions, per_session;
static bool evp, mb;
static struct stun_mac *mac;
static int udp;

/* RFC 3711, 4.3: session key and salt from the master's. */
static void derive(const uint8_t *master, uint8_t label, uint8_t *out, int n)
{
    uint8_t iv[16] = { 0 }, zero[16] = { 0 };
    int len;
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    memcpy(iv, master + 16, 12);
    iv[7] ^= label;
    if (!c || EVP_EncryptInit_ex(c, EVP_aes_128_ctr(), NULL, master, iv) != 1 || EVP_EncryptUpdate(c, out, &len, zero, n) != 1)
        abort();
    EVP_CIPHER_CTX_free(c);
}

static void crypt_init(struct crypt *c, const uint8_t *key, uint32_t ssrc, bool receive)
{
    uint8_t session[16];
    if (!evp && !mb) {
        uint8_t copy[BENCH_KEY];
        srtp_policy_t p;
        memset(&p, 0, sizeof p);
        memcpy(copy, key, sizeof copy);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&p.rtp);
        srtp_crypto_policy_set_aes_gcm_128_16_auth(&p.rtcp);
        p.ssrc.type = ssrc_specific;
        p.ssrc.value = ssrc;
        p.key = copy;
        p.window_size = 1024;
        if (srtp_create(&c->srtp, &p) != srtp_err_status_ok)
            abort();
        return;
    }
    derive(key, 0, session, 16);
    derive(key, 2, c->salt, 12);
    if (mb && gcm_new(GCM_MB, session, receive ? GCM_OPEN : GCM_SEAL, &c->mb) != PL_OK)
        abort();
    c->evp = EVP_CIPHER_CTX_new();
    if (!c->evp || EVP_CipherInit_ex(c->evp, EVP_aes_128_gcm(), NULL, session, NULL, receive ? 0 : 1) != 1)
        abort();
}

static void iv_of(const struct crypt *c, const uint8_t *p, uint8_t iv[12])
{
    iv[0] = iv[1] = 0;
    memcpy(iv + 2, p + 8, 4);
    iv[6] = (uint8_t)(c->roc >> 24), iv[7] = (uint8_t)(c->roc >> 16), iv[8] = (uint8_t)(c->roc >> 8), iv[9] = (uint8_t)c->roc;
    iv[10] = p[2], iv[11] = p[3];
    for (int i = 0; i < 12; i++)
        iv[i] ^= c->salt[i];
}

static void count_up(struct crypt *c, uint16_t seq)
{
    c->roc += seq < c->last && c->last - seq > 32768;
    c->last = seq;
}

static bool verify(struct crypt *c, uint8_t *p, size_t *n)
{
    uint8_t iv[12];
    int len;
    if (!evp && !mb) {
        int size = (int)*n;
        bool ok = srtp_unprotect(c->srtp, p, &size) == srtp_err_status_ok;
        *n = (size_t)size;
        return ok;
    }
    count_up(c, (uint16_t)(p[2] << 8 | p[3]));
    iv_of(c, p, iv);
    *n -= TAG;
    if (mb)
        return gcm_open(c->mb, iv, p, 12, p + 12, *n - 12);
    return EVP_DecryptInit_ex(c->evp, NULL, NULL, NULL, iv) == 1 && EVP_DecryptUpdate(c->evp, NULL, &len, p, 12) == 1 &&
        EVP_DecryptUpdate(c->evp, p + 12, &len, p + 12, (int)*n - 12) == 1 && EVP_CIPHER_CTX_ctrl(c->evp, EVP_CTRL_GCM_SET_TAG, TAG, p + *n) == 1 &&
        EVP_DecryptFinal_ex(c->evp, p + *n, &len) == 1;
}

static size_t encrypt(struct leg *v, const uint8_t *in, size_t n, uint8_t *out)
{
    struct rtp_header h;
    uint8_t iv[12];
    int len;
    if (rtp_peek(in, n, &h) != PL_OK)
        abort();
    h.ssrc = v->id.ssrc;
    h.seq = v->seq++;
    rtp_write(&h, out);
    if (!evp && !mb) {
        memcpy(out + 12, in + 12, n - 12);
        int size = (int)n;
        return srtp_protect(v->crypt.srtp, out, &size) == srtp_err_status_ok ? (size_t)size : 0;
    }
    count_up(&v->crypt, h.seq);
    iv_of(&v->crypt, out, iv);
    if (mb)
        return gcm_seal(v->crypt.mb, iv, out, 12, in + 12, out + 12, n - 12) ? n + TAG : 0;
    if (EVP_EncryptInit_ex(v->crypt.evp, NULL, NULL, NULL, iv) != 1 || EVP_EncryptUpdate(v->crypt.evp, NULL, &len, out, 12) != 1 ||
        EVP_EncryptUpdate(v->crypt.evp, out + 12, &len, in + 12, (int)n - 12) != 1 || EVP_EncryptFinal_ex(v->crypt.evp, out + n, &len) != 1 ||
        EVP_CIPHER_CTX_ctrl(v->crypt.evp, EVP_CTRL_GCM_GET_TAG, TAG, out + n) != 1)
        abort();
    return n + TAG;
}

static void send_run(const struct leg *v, const uint8_t *p, size_t n, uint16_t segment)
{
    union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(uint16_t))];
    } control;
    struct iovec iov = { (void *)(uintptr_t)p, n };
    struct msghdr m = { .msg_name = (void *)(uintptr_t)&v->to, .msg_namelen = sizeof v->to, .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof control.bytes };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(c), &segment, sizeof segment);
    (void)sendmsg(udp, &m, 0);
}

static void on_check(const uint8_t *p, size_t n, const struct sockaddr_in *from)
{
    struct stun_msg m;
    struct ice_lite_result r;
    struct ice_addr a = ice_addr_of((const struct sockaddr *)from);
    uint8_t out[STUN_MAX];
    if (stun_parse(p, n, &m) != PL_OK)
        return;
    for (unsigned s = 0; s < sessions; s++)
        for (int v = -1; v < (int)per_session; v++) {
            struct leg *l = v < 0 ? &sources[s] : &viewers[s][v];
            if (ice_lite_check(mac, &l->ice, &l->seen, &m, &a, out, sizeof out, &r) == PL_OK) {
                l->to = *from;
                (void)sendto(udp, out, r.answer_n, 0, (const struct sockaddr *)from, sizeof *from);
                return;
            }
        }
}

static void forward(unsigned s, uint8_t *const *packets, const size_t *sizes, int n)
{
    static uint8_t out[RUN * (BENCH_PACKET + 64)];
    for (unsigned v = 0; v < per_session; v++) {
        size_t at = 0;
        for (int i = 0; i < n; i++)
            at += encrypt(&viewers[s][v], packets[i], sizes[i], out + at);
        send_run(&viewers[s][v], out, at, BENCH_PACKET);
    }
}

/* The datagrams of one message: as many as came in a row from one sender (UDP_GRO). */
static size_t segment_of(struct msghdr *m, size_t n)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(c), sizeof segment);
            return (size_t)segment;
        }
    return n;
}

struct run { /* verified packets of one source */
    unsigned session;
    int n;
    uint8_t *packets[RUN];
    size_t sizes[RUN];
};

static void end_run(struct run *r)
{
    if (r->n)
        forward(r->session, r->packets, r->sizes, r->n);
    r->n = 0;
}

static void take(struct run *r, uint8_t *p, size_t n, const struct sockaddr_in *from)
{
    if (rtp_classify(p, n) == RTP_CLASS_STUN) {
        on_check(p, n, from);
        return;
    }
    uint32_t ssrc = (uint32_t)p[8] << 24 | (uint32_t)p[9] << 16 | (uint32_t)p[10] << 8 | p[11];
    unsigned s = (ssrc - 0x1000) / 64;
    if (s >= sessions || !verify(&sources[s].crypt, p, &n))
        return;
    if (r->n == RUN || (r->n && s != r->session))
        end_run(r);
    r->session = s;
    r->packets[r->n] = p;
    r->sizes[r->n++] = n;
}

static void *loop(void *arg)
{
    static uint8_t bytes[BATCH][SLOT];
    static struct mmsghdr m[BATCH];
    static struct iovec iov[BATCH];
    static struct sockaddr_in names[BATCH];
    static union {
        struct cmsghdr head;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } controls[BATCH];
    int ep = epoll_create1(0);
    struct epoll_event ev = { .events = EPOLLIN };
    (void)epoll_ctl(ep, EPOLL_CTL_ADD, udp, &ev);
    for (int i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){ bytes[i], 65535 };
        m[i].msg_hdr = (struct msghdr){ .msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = &controls[i] };
    }
    for (;;) {
        struct run run = { 0 };
        for (int i = 0; i < BATCH; i++)
            m[i].msg_hdr.msg_controllen = sizeof controls[i].bytes;
        (void)epoll_wait(ep, &ev, 1, -1);
        int got = recvmmsg(udp, m, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < got; i++) {
            size_t left = m[i].msg_len, segment = segment_of(&m[i].msg_hdr, left);
            for (uint8_t *p = bytes[i]; left > 0; p += segment, left -= left < segment ? left : segment)
                take(&run, p, left < segment ? left : segment, &names[i]);
        }
        end_run(&run);
    }
    return arg;
}

int main(int argc, char **argv)
{
    int size = 4 << 20, on = 1;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    pthread_t t;
    if (argc != 4 || pl_parse_u32(pl_str_of(argv[2]), 1, MAX_SESSIONS, &sessions) != PL_OK || pl_parse_u32(pl_str_of(argv[3]), 1, MAX_VIEWERS, &per_session) != PL_OK)
        return 64;
    evp = strcmp(argv[1], "evp") == 0;
    mb = strcmp(argv[1], "ipsec-mb") == 0;
    if (stun_mac_new(&mac) != PL_OK || srtp_init() != srtp_err_status_ok)
        return 70;
    for (unsigned s = 0; s < sessions; s++)
        for (int v = -1; v < (int)per_session; v++) {
            struct leg *l = v < 0 ? &sources[s] : &viewers[s][v];
            l->id = bench_leg(s, v);
            l->ice = l->id.ice;
            crypt_init(&l->crypt, v < 0 ? l->id.to_relay : l->id.from_relay, l->id.ssrc, v < 0);
        }
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || bind(udp, (struct sockaddr *)&at, n) != 0 || getsockname(udp, (struct sockaddr *)&at, &n) != 0)
        return 69;
    if (setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        (void)setsockopt(udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    (void)setsockopt(udp, SOL_UDP, UDP_GRO, &on, sizeof on);
    if (pthread_create(&t, NULL, loop, NULL) != 0)
        return 70;
    printf("%u\n", (unsigned)ntohs(at.sin_port));
    (void)fflush(stdout);
    bench_marks();
    return 0;
}
