#include "relay_lock.h"
#include "dtls.h"
#include "secure.h"
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESCRIPTORS 64 /* the relay holds about twenty; a connection that is made anew takes one */
#define REFUSED_STATUS (128 + SIGSYS)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

/* Whole system calls. Those that the media path makes for each packet come first only for the reader: libseccomp sorts them into a tree. */
static const int allowed[] = {
    SCMP_SYS(recvmmsg), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(futex),
    SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(getrusage),
    /* the connection to the cloud */
    SCMP_SYS(connect), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(shutdown), SCMP_SYS(sendto), SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_create1),
    SCMP_SYS(eventfd2), SCMP_SYS(pipe2),
    /* memory, randomness, threads, signals */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mlock), SCMP_SYS(munlock), SCMP_SYS(getrandom), SCMP_SYS(set_robust_list), SCMP_SYS(rseq),
    SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall), SCMP_SYS(fstat), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

/* What libraries try by themselves and do without. */
static const struct { int call, answer; } refused[] = {
    { SCMP_SYS(open), EACCES },     { SCMP_SYS(openat), EACCES },     { SCMP_SYS(openat2), EACCES }, { SCMP_SYS(stat), EACCES },       { SCMP_SYS(lstat), EACCES },
    { SCMP_SYS(statx), EACCES },    { SCMP_SYS(newfstatat), EACCES }, { SCMP_SYS(access), EACCES },  { SCMP_SYS(faccessat), EACCES },  { SCMP_SYS(faccessat2), EACCES },
    { SCMP_SYS(readlink), EACCES }, { SCMP_SYS(readlinkat), EACCES }, { SCMP_SYS(clone3), ENOSYS },  { SCMP_SYS(io_uring_setup), ENOSYS },
};

#define ARG(n, op, ...) SCMP_CMP(n, SCMP_CMP_##op, __VA_ARGS__)
#define STREAM_OF(family) { SCMP_SYS(socket), 2, { ARG(0, EQ, family), ARG(1, MASKED_EQ, 0xf, SOCK_STREAM) } }
#define DATAGRAM_OF(family) { SCMP_SYS(socket), 2, { ARG(0, EQ, family), ARG(1, MASKED_EQ, 0xf, SOCK_DGRAM) } }

/* Allowed with these arguments only. */
static const struct { int call; unsigned n; struct scmp_arg_cmp args[2]; } allowed_with[] = {
    STREAM_OF(AF_INET), STREAM_OF(AF_INET6), DATAGRAM_OF(AF_INET), DATAGRAM_OF(AF_INET6), /* the C library tries by a datagram socket which address is reached */
    { SCMP_SYS(mmap), 1, { ARG(2, MASKED_EQ, PROT_EXEC, 0) } },
    { SCMP_SYS(mprotect), 1, { ARG(2, MASKED_EQ, PROT_EXEC, 0) } },
    { SCMP_SYS(clone), 1, { ARG(0, MASKED_EQ, CLONE_VM | CLONE_THREAD, CLONE_VM | CLONE_THREAD) } }, /* threads, no processes */
    { SCMP_SYS(prctl), 1, { ARG(0, EQ, PR_SET_NAME) } },
    { SCMP_SYS(sched_setscheduler), 1, { ARG(1, EQ, SCHED_OTHER) } }, /* a thread may step back */
    { SCMP_SYS(ioctl), 1, { ARG(1, EQ, FIONBIO) } },
    { SCMP_SYS(ioctl), 1, { ARG(1, EQ, FIOCLEX) } },
    { SCMP_SYS(ioctl), 1, { ARG(1, EQ, FIONREAD) } },
};

/* The C library asks a name service over a Unix socket and the kernel's address table over netlink, and goes on without. */
static const int refused_families[] = { AF_UNIX, AF_NETLINK };

/* Runs in the middle of anything: write(2) and the end, nothing else. */
static void on_refused(int sig, siginfo_t *info, void *context)
{
    static const char head[] = "{\"level\":\"error\",\"event\":\"relay.system-call-refused\",\"call\":";
    char line[sizeof head + 16];
    size_t n = sizeof head - 1, from;
    (void)sig, (void)context;
    memcpy(line, head, n);
    from = n;
    for (unsigned v = (unsigned)info->si_syscall; n == from || v; v /= 10)
        line[n++] = (char)('0' + v % 10);
    for (size_t i = from, k = n - 1; i < k; i++, k--) { /* written backwards */
        char c = line[i];
        line[i] = line[k];
        line[k] = c;
    }
    line[n++] = '}';
    line[n++] = '\n';
    ssize_t done = write(STDERR_FILENO, line, n);
    (void)done;
    _exit(REFUSED_STATUS);
}

/* ---- Crypto loads its parts (libsrtp's NSS whole libraries) when it is first used: so it is used, and found to work, while files can still be read. */

static enum pl_err round_trip(struct pl_srtp *out, struct pl_srtp *in)
{
    uint8_t rtp[128] = { 0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1 }, rtcp[128] = { 0x80, 201, 0, 1, 0, 0, 0, 1 };
    size_t rtp_n = 64, rtcp_n = 8;
    enum pl_err e = pl_srtp_protect_rtp(out, rtp, &rtp_n, sizeof rtp);
    if (e == PL_OK)
        e = pl_srtp_unprotect_rtp(in, rtp, &rtp_n);
    if (e == PL_OK)
        e = pl_srtp_protect_rtcp(out, rtcp, &rtcp_n, sizeof rtcp);
    return e == PL_OK ? pl_srtp_unprotect_rtcp(in, rtcp, &rtcp_n) : e;
}

/* For as long as the process lives: NSS unloads itself with its last key and could not come back. */
static struct pl_srtp *held[PL_SRTP_SHA1_80 + 1][2];

static enum pl_err rehearse(enum pl_srtp_suite suite)
{
    const uint8_t key[PL_SRTP_KEY_MAX] = { 1 };
    struct pl_srtp_conf conf = { .suite = suite, .key = key, .key_n = pl_srtp_key_bytes(suite), .ssrcs = { 1 }, .ssrcs_n = 1 };
    struct pl_srtp **out = &held[suite][0], **in = &held[suite][1];
    enum pl_err e = pl_srtp_new(&conf, out);
    conf.receive = true;
    if (e == PL_OK)
        e = pl_srtp_new(&conf, in);
    return e == PL_OK ? round_trip(*out, *in) : e;
}

/* Two ends of a handshake, with what each has sent and the other not taken yet. */
struct shaker {
    struct dtls_sink sink; /* first */
    struct dtls *d;
    unsigned n;
    size_t sizes[4];
    uint8_t bytes[4][DTLS_MTU];
};

static void keep_datagram(struct dtls_sink *self, const uint8_t *p, size_t n)
{
    struct shaker *s = (struct shaker *)self;
    if (s->n == PL_COUNT(s->sizes))
        return;
    memcpy(s->bytes[s->n], p, n);
    s->sizes[s->n++] = n;
}

static void pass(struct shaker *from, struct shaker *to, struct pl_mono now)
{
    for (unsigned i = 0; i < from->n; i++)
        dtls_input(to->d, now, from->bytes[i], from->sizes[i], &to->sink);
    from->n = 0;
}

static enum pl_err shake_hands(struct dtls_context *context, struct shaker *active, struct shaker *passive)
{
    const struct pl_mono now = { 0 };
    struct dtls_keys keys;
    struct dtls_conf conf = { .context = context, .role = DTLS_ACTIVE, .suites = { PL_SRTP_GCM, PL_SRTP_SHA1_80 }, .suites_n = 2 };
    memcpy(conf.fingerprints[0], dtls_fingerprint(context), sizeof conf.fingerprints[0]);
    active->sink.send = passive->sink.send = keep_datagram;
    enum pl_err e = dtls_new(&conf, &active->d);
    conf.role = DTLS_PASSIVE;
    if (e == PL_OK)
        e = dtls_new(&conf, &passive->d);
    if (e != PL_OK)
        return e;
    dtls_start(active->d, now, &active->sink);
    for (unsigned flight = 0; flight < 2; flight++) {
        pass(active, passive, now);
        pass(passive, active, now);
    }
    e = dtls_state(active->d) == DTLS_FINISHED ? dtls_keys(active->d, &keys) : PL_UNAVAILABLE;
    secure_wipe(&keys, sizeof keys);
    return e;
}

static enum pl_err rehearse_dtls(void)
{
    struct dtls_context *context = NULL;
    struct shaker *both = pl_heap(2 * sizeof *both);
    enum pl_err e = both ? dtls_context_new((struct pl_utc){ 0 }, &context) : PL_NO_MEMORY;
    if (e == PL_OK)
        e = shake_hands(context, &both[0], &both[1]);
    for (unsigned i = 0; both && i < 2; i++)
        dtls_free(both[i].d);
    dtls_context_free(context);
    pl_heap_free(both);
    return e;
}

/* ---- The filter. */

static int add_rules(scmp_filter_ctx f)
{
    int bad = seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1); /* the threads that run already, too */
    if (!bad)
        bad = seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; !bad && i < PL_COUNT(allowed); i++)
        bad = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; !bad && i < PL_COUNT(allowed_with); i++)
        bad = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, allowed_with[i].call, allowed_with[i].n, allowed_with[i].args);
    for (size_t i = 0; !bad && i < PL_COUNT(refused); i++)
        bad = seccomp_rule_add(f, SCMP_ACT_ERRNO((uint16_t)refused[i].answer), refused[i].call, 0);
    for (size_t i = 0; !bad && i < PL_COUNT(refused_families); i++)
        bad = seccomp_rule_add(f, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(socket), 1, ARG(0, EQ, (scmp_datum_t)refused_families[i]));
    return bad;
}

enum pl_err relay_lock(struct pl_fail *reterr)
{
#ifdef SANITIZED
    (void)reterr, (void)add_rules, (void)on_refused, (void)rehearse, (void)rehearse_dtls;
    return PL_OK;
#else
    for (enum pl_srtp_suite suite = PL_SRTP_GCM; suite <= PL_SRTP_SHA1_80; suite++)
        if (rehearse(suite) != PL_OK)
            return pl_fail(reterr, PL_UNAVAILABLE, "%s does not work on this machine.", pl_srtp_suite_name(suite));
    if (rehearse_dtls() != PL_OK)
        return pl_fail(reterr, PL_UNAVAILABLE, "DTLS 1.2 does not work on this machine.");
    struct sigaction act = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO };
    struct rlimit few = { DESCRIPTORS, DESCRIPTORS };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || setrlimit(RLIMIT_NOFILE, &few) != 0 || sigaction(SIGSYS, &act, NULL) != 0)
        return pl_fail(reterr, PL_UNAVAILABLE, "the relay cannot be locked down: %m");
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);
    if (!f)
        return PL_NO_MEMORY;
    int bad = add_rules(f);
    if (!bad)
        bad = seccomp_load(f);
    seccomp_release(f);
    errno = bad < 0 ? -bad : bad;
    return bad ? pl_fail(reterr, PL_UNAVAILABLE, "the system-call filter cannot be loaded: %m") : PL_OK;
#endif
}

void relay_lock_memory(const struct pl_log *log)
{
    struct rlimit limit = { 0, 0 }, none = { 0, 0 };
    bool unlimited = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        PL_LOG(log, PL_WARN, "relay.not-locked-down", PL_F_Z("why", "prctl or setrlimit is refused"));
    /* On fault: memory that nobody has touched yet (rings are 4 MiB each) must not become resident. A limit in bytes would make later allocations fail: then not at all. */
    if ((!unlimited && geteuid() != 0) || mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        PL_LOG(log, PL_INFO, "relay.memory-not-locked", PL_F_Z("why", "RLIMIT_MEMLOCK is limited: session keys may reach swap"));
}
