/* notify against a real PostgreSQL and a provider that the test plays: the outbox's states, S-P10, retries, the signature, the mail's form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "notify_int.h"
#include "pg_schema.h"
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#define SCHEMA "t_notify"
#define T0 INT64_C(1790000000000000)
#define LIFE (40 * PL_MINUTE)

static struct pl_arena *arena;
static struct db *db;
static struct pl_rand_seeded rnd;
static struct pl_clock_fixed clk;
static struct pl_secret master = { { 9 } };
static struct pl_log log_root;

/* ---- a provider: takes one POST a connection, remembers the last, answers what it is told ---- */

static struct provider {
    int fd, port;
    pthread_t thread;
    int status; /* LOCK: none; set between runs only */
    char head[4096], body[4096];
    unsigned calls;
} provider;

static void provider_answer(int fd)
{
    char text[8192];
    size_t n = 0;
    char *end = NULL;
    long want = -1;
    while (n < sizeof text - 1 && (want < 0 || (size_t)(end + 4 - text) + (size_t)want > n)) {
        ssize_t got = recv(fd, text + n, sizeof text - 1 - n, 0);
        if (got <= 0)
            return;
        n += (size_t)got;
        text[n] = '\0';
        if (want < 0 && (end = strstr(text, "\r\n\r\n")) != NULL) {
            const char *length = strstr(text, "Content-Length: ");
            want = length ? strtol(length + 16, NULL, 10) : 0;
        }
    }
    struct pl_buf head = pl_buf_fixed(provider.head, sizeof provider.head), body = pl_buf_fixed(provider.body, sizeof provider.body);
    pl_buf_add(&head, text, (size_t)(end - text));
    pl_buf_z(&body, end + 4);
    provider.calls++;
    char reply[128];
    struct pl_buf r = pl_buf_fixed(reply, sizeof reply);
    pl_buf_fmt(&r, "HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", provider.status);
    if (send(fd, r.p, r.n, MSG_NOSIGNAL) < 0)
        return;
}

static void *provider_run(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = accept(provider.fd, NULL, NULL);
        if (fd < 0)
            return NULL;
        provider_answer(fd);
        close(fd);
    }
}

static void provider_go(void)
{
    if (pthread_create(&provider.thread, NULL, provider_run, NULL) != 0)
        abort();
}

static void provider_start(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    provider.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(provider.fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(provider.fd, 8) != 0 || getsockname(provider.fd, (struct sockaddr *)&a, &len) != 0)
        abort();
    provider.port = ntohs(a.sin_port);
    failing_start(provider_go);
}

static void provider_stop(void)
{
    shutdown(provider.fd, SHUT_RDWR);
    pthread_join(provider.thread, NULL);
    close(provider.fd);
}

/* ---- helpers ---- */

static struct notify *make(const char *smtp, bool webhook)
{
    struct notify_conf c = { 0 };
    struct notify *n = NULL;
    struct pl_fail fail = PL_FAIL_INIT;
    assert_int_equal(conf_defaults(notify_conf_rows, &c, arena, &fail), PL_OK);
    c.smtp_url = pl_str_of(smtp);
    if (webhook)
        c.sms_webhook = pl_fmt(arena, "http://127.0.0.1:%d/sms", provider.port);
    assert_int_equal(notify_new(&c, &master, NULL, &log_root, &n, &fail), PL_OK);
    return n;
}

static void queue(const struct notify *n, enum notify_channel channel, const char *pin)
{
    struct db_tx *tx = NULL;
    struct notify_message m = { .kind = pin ? NOTIFY_PIN : NOTIFY_HUB_DELETED, .channel = channel, .to = channel == NOTIFY_EMAIL ? PL_STR("eve@example.org") : PL_STR("+436641234567"),
        .about = pin ? PL_STR("log_in") : PL_STR("Hütte"), .pin = pl_str_of(pin), .ordinal = 2, .life_us = pin ? LIFE : 0 };
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    assert_int_equal(notify_queue(n, tx, &rnd.base, clk.utc, &m), PL_OK);
    assert_int_equal(db_commit(&tx), PL_OK);
}

static unsigned run(struct notify *n)
{
    unsigned tried = 99;
    assert_int_equal(notify_run_once(n, db, arena, &rnd.base, &clk.base, 10, &tried), PL_OK);
    return tried;
}

/* Rows in this status, by making the statement fail when the number is another one. */
static void assert_rows(const char *status, int count, bool body)
{
    char sql[256];
    struct pl_buf b = pl_buf_fixed(sql, sizeof sql);
    pl_buf_fmt(&b, "SELECT 1 / (count(*) = %d)::int FROM outbox WHERE status = '%s' AND (body IS NOT NULL) = %s", count, status, body ? "true" : "false");
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    static struct db_stmt made[200];
    static char names[200][16], texts[200][256];
    static int k;
    struct pl_buf name = pl_buf_fixed(names[k], sizeof names[k]), text = pl_buf_fixed(texts[k], sizeof texts[k]);
    pl_buf_fmt(&name, "rows_%d", k);
    pl_buf_z(&text, sql);
    static const struct db_col cols[] = { { .type = DB_INT4 } };
    made[k] = (struct db_stmt){ .name = names[k], .sql = texts[k], .cols = cols, .ncols = 1, .row_size = sizeof(int32_t) };
    void *rows;
    int64_t n;
    enum pl_err e = db_stmt_run(tx, &made[k++], NULL, 0, 1, &rows, &n);
    db_rollbackp(&tx);
    if (e != PL_OK)
        fail_msg("there are not %d rows with status %s", count, status);
}

static struct notify_listed *list(const struct notify *n, size_t *ret_n)
{
    struct notify_listed *rows;
    struct db_tx *tx = NULL;
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    assert_int_equal(notify_list(n, tx, clk.utc, &rows, ret_n), PL_OK);
    db_rollbackp(&tx);
    return rows;
}

/* As C's own functions want it. */
static char *z(struct pl_str s)
{
    char *text = pl_str_z(arena, s);
    assert_non_null(text);
    return text;
}

static int each_test(void **state)
{
    (void)state;
    pl_arena_reset(arena);
    pl_clock_fixed_init(&clk, T0);
    provider.status = 200;
    provider.calls = 0;
    return pg_do(db, "DELETE FROM outbox") == PL_OK && pg_do(db, "DELETE FROM voice_call") == PL_OK ? 0 : -1;
}

/* ---- tests ---- */

static void a_webhook_message_is_signed_sent_once_and_wiped(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    uint8_t mac[32];
    queue(n, NOTIFY_SMS, "012345");
    assert_int_equal(run(n), 1);
    assert_int_equal(run(n), 0);
    assert_int_equal(provider.calls, 1);
    assert_rows("sent", 1, false);
    assert_non_null(strstr(provider.body, "\"pin\":\"012345\""));
    assert_non_null(strstr(provider.body, "\"to\":\"+436641234567\""));
    assert_non_null(strstr(provider.body, "\"channel\":\"sms\""));
    assert_non_null(strstr(provider.body, "2nd"));
    /* The receiver's way to check it, from the key that the operator is shown. */
    char key_hex[65];
    struct pl_secret key;
    notify_webhook_key(n, key_hex);
    assert_int_equal(pl_unhex(pl_str_of(key_hex), key.b, 32), PL_OK);
    struct pl_str signed_text = pl_fmt(arena, "%lld.%s", (long long)(T0 / PL_SECOND), provider.body);
    assert_non_null(signed_text.p);
    secure_hmac_sha256(&key, signed_text, mac);
    struct pl_str hex = pl_hex(arena, mac, 32);
    assert_non_null(hex.p);
    struct pl_str want = pl_fmt(arena, "Porchlight-Signature: t=%lld,v1=%.*s", (long long)(T0 / PL_SECOND), PL_FMT(hex));
    assert_non_null(strstr(provider.head, z(want)));
    notify_free(n);
}

static void a_sent_message_is_done_when_nothing_more_comes(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    queue(n, NOTIFY_VOICE, "111111");
    run(n);
    pl_clock_fixed_advance(&clk, PL_HOUR);
    run(n);
    assert_rows("done", 1, false);
    pl_clock_fixed_advance(&clk, 7 * PL_DAY);
    run(n);
    assert_rows("done", 0, false);
    notify_free(n);
}

static void a_failing_provider_is_asked_again_later_with_the_same_id(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    queue(n, NOTIFY_SMS, "222222");
    provider.status = 503;
    assert_int_equal(run(n), 1);
    assert_rows("queued", 1, true);
    char *first = z(pl_str_of(provider.body));
    assert_int_equal(run(n), 0); /* not before 5 s */
    pl_clock_fixed_advance(&clk, 5 * PL_SECOND);
    provider.status = 200;
    assert_int_equal(run(n), 1);
    assert_string_equal(provider.body, first);
    assert_rows("sent", 1, false);
    notify_free(n);
}

static void a_refused_message_is_dead_at_once_and_a_failing_one_after_eight_tries(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    provider.status = 400;
    queue(n, NOTIFY_SMS, "333333");
    run(n);
    assert_rows("dead", 1, false);
    provider.status = 500;
    queue(n, NOTIFY_SMS, "333333");
    static const int64_t waits[] = { 5, 10, 20, 40, 80, 160, 300 };
    for (size_t i = 0; i < PL_COUNT(waits); i++) {
        assert_int_equal(run(n), 1);
        pl_clock_fixed_advance(&clk, waits[i] * PL_SECOND - 1);
        assert_int_equal(run(n), 0);
        pl_clock_fixed_advance(&clk, 1);
    }
    assert_rows("queued", 1, true);
    assert_int_equal(run(n), 1);
    assert_rows("dead", 2, false);
    notify_free(n);
}

static void s_p10_not_sent_when_older_than_half_its_life(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    queue(n, NOTIFY_SMS, "444444");
    pl_clock_fixed_advance(&clk, LIFE / 2);
    assert_int_equal(run(n), 0);
    assert_int_equal(provider.calls, 0);
    assert_rows("expired", 1, false);
    queue(n, NOTIFY_SMS, "555555");
    pl_clock_fixed_advance(&clk, LIFE / 2 - 1);
    assert_int_equal(run(n), 1);
    notify_free(n);
}

static void s_p10_without_a_provider_it_is_readable_until_the_pin_dies(void **state)
{
    (void)state;
    struct notify *n = make("", false);
    size_t count;
    queue(n, NOTIFY_EMAIL, "666666");
    pl_clock_fixed_advance(&clk, LIFE - 1);
    assert_int_equal(run(n), 0);
    struct notify_listed *rows = list(n, &count);
    assert_int_equal(count, 1);
    assert_true(pl_str_eqz(rows[0].pin, "666666") && pl_str_eqz(rows[0].to, "eve@example.org") && pl_str_eqz(rows[0].channel, "email"));
    pl_clock_fixed_advance(&clk, 1);
    run(n);
    list(n, &count);
    assert_int_equal(count, 0);
    assert_rows("expired", 1, false);
    notify_free(n);
}

static void s_a10_where_a_provider_delivers_no_operator_reads_along(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    size_t count;
    queue(n, NOTIFY_EMAIL, "666666");
    queue(n, NOTIFY_SMS, "777777");
    struct notify_listed *rows = list(n, &count);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < count; i++) {
        bool mail = pl_str_eqz(rows[i].channel, "email"); /* which has no provider here */
        assert_int_equal(rows[i].pin.p != NULL, mail);
        assert_int_equal(rows[i].text.p != NULL, mail);
    }
    notify_free(n);
}

static void s_p10_the_row_holds_neither_pin_nor_address(void **state)
{
    (void)state;
    struct notify *n = make("", false);
    queue(n, NOTIFY_EMAIL, "777777");
    /* The whole row as text: were either in it, the division would fail. */
    assert_int_equal(pg_do(db, "DO $$ BEGIN IF EXISTS (SELECT 1 FROM outbox o WHERE position('777777'::bytea in body) > 0 OR position('eve@'::bytea in body) > 0 "
                               "OR o::text LIKE '%eve@%') THEN RAISE EXCEPTION 'in clear'; END IF; END $$"), PL_OK);
    /* A body under another row's id does not open. */
    size_t count;
    struct notify_listed *rows;
    struct db_tx *tx = NULL;
    queue(n, NOTIFY_EMAIL, "888888");
    list(n, &count);
    assert_int_equal(count, 2);
    assert_int_equal(pg_do(db, "UPDATE outbox SET body = (SELECT body FROM outbox ORDER BY id LIMIT 1)"), PL_OK);
    assert_int_equal(db_begin(db, arena, &tx), PL_OK);
    assert_int_equal(notify_list(n, tx, clk.utc, &rows, &count), PL_AUTH);
    db_rollbackp(&tx);
    notify_free(n);
}

static void a_lost_lease_is_taken_over_after_its_time(void **state)
{
    (void)state;
    struct notify *n = make("", true);
    queue(n, NOTIFY_SMS, "999999");
    assert_int_equal(pg_do(db, "UPDATE outbox SET status = 'leased', lease = id, attempts = 1, next_at = next_at + interval '30 s'"), PL_OK);
    assert_int_equal(run(n), 0);
    pl_clock_fixed_advance(&clk, 30 * PL_SECOND);
    assert_int_equal(run(n), 1);
    assert_rows("sent", 1, false);
    notify_free(n);
}

static void the_mail_has_its_form(void **state)
{
    (void)state;
    struct pl_uuid id;
    struct pl_str mail;
    struct notify_body b = { .to = PL_STR("eve@example.org"), .subject = PL_STR("Hello"), .text = PL_STR("one\ntwo\n"), .pin = PL_STR_NONE };
    assert_int_equal(pl_uuid_parse(PL_STR("01920000-0000-7000-8000-000000000000"), &id), PL_OK);
    assert_int_equal(notify_mime("Porch <porch@cam.example>", id, (struct pl_utc){ INT64_C(1795251480) * PL_SECOND }, &b, arena, &mail), PL_OK);
    assert_string_equal(mail.p,
        "Date: Sat, 21 Nov 2026 08:58:00 +0000\r\nFrom: Porch <porch@cam.example>\r\nTo: <eve@example.org>\r\nSubject: Hello\r\n"
        "Message-ID: <01920000-0000-7000-8000-000000000000@cam.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\nAuto-Submitted: auto-generated\r\n\r\none\r\ntwo\r\n");
}

static void what_a_person_typed_makes_no_lines(void **state)
{
    (void)state;
    struct notify_body b;
    struct notify *n = make("", false);
    struct notify_message m = { .kind = NOTIFY_HUB_DELETED, .channel = NOTIFY_EMAIL, .to = PL_STR("eve@example.org"), .about = PL_STR("My\r\nBcc: x {pin} home") };
    assert_int_equal(notify_render(n, &m, arena, &b), PL_OK);
    assert_non_null(strstr(z(b.text), "\"My  Bcc: x {pin} home\""));
    /* There is no text of it for a phone. */
    m.channel = NOTIFY_SMS;
    assert_int_equal(notify_render(n, &m, arena, &b), PL_CHANNEL_REFUSED);
    notify_free(n);
}

static void what_is_no_header_is_never_made_one(void **state)
{
    (void)state;
    struct pl_str mail;
    static const char *const to[] = { "a@b.example\r\nBcc: c@d.example", "a@b.example>\nX: 1", "a@b.example> <c@d.example" };
    for (size_t i = 0; i < PL_COUNT(to); i++) {
        struct notify_body b = { .to = pl_str_of(to[i]), .subject = PL_STR("Hello"), .text = PL_STR("one\n") };
        assert_int_equal(notify_mime("porch@cam.example", (struct pl_uuid){ 0 }, clk.utc, &b, arena, &mail), PL_INVALID_REQUEST);
    }
}

/* A message that was sealed before there were locales says none: it is opened, and written as the default's. */
static void a_message_that_was_sealed_without_a_locale_is_read(void **state)
{
    struct notify *n = make("smtp://127.0.0.1:9", false);
    struct pl_uuid id = pl_uuid7(&rnd.base, clk.utc);
    char text[PL_UUID_TEXT];
    struct notify_body body;
    struct pl_str sealed;
    (void)state;
    pl_uuid_text(id, text);
    assert_int_equal(secure_seal(&n->seal_key, pl_str_of(text), PL_STR("{\"to\":\"a@b.example\",\"subject\":\"S\",\"text\":\"T\",\"pin\":\"012345\"}"), arena, &sealed), PL_OK);
    assert_int_equal(notify_body_open(n, id, sealed, arena, &body), PL_OK);
    assert_true(pl_str_eqz(body.to, "a@b.example") && pl_str_eqz(body.text, "T") && pl_str_eqz(body.pin, "012345") && pl_str_eqz(body.locale, "en") && !body.ask.p);
    notify_free(n);
}

static void settings_that_cannot_work_are_refused(void **state)
{
    (void)state;
    static const struct { const char *field, *value; } cases[] = { { "notify.smtp_url", "http://x" }, { "notify.sms_webhook", "file:///etc" }, { "notify.webhook_key", "abc" },
        { "notify.from", "nobody" } };
    for (size_t i = 0; i < PL_COUNT(cases); i++) {
        struct notify_conf c = { 0 };
        struct notify *n;
        struct pl_fail fail = PL_FAIL_INIT;
        assert_int_equal(conf_defaults(notify_conf_rows, &c, arena, NULL), PL_OK);
        enum pl_err e = conf_set(notify_conf_rows, &c, pl_str_of(cases[i].field), pl_str_of(cases[i].value), arena, &fail); /* by its row, or what no row can say: */
        if (e == PL_OK)
            e = notify_new(&c, &master, NULL, &log_root, &n, &fail);
        assert_int_equal(e, PL_INVALID_REQUEST);
        assert_string_equal(fail.field, cases[i].field);
    }
}

int main(void)
{
    if (secure_init() != PL_OK || !(arena = pl_arena_new(32 << 20)))
        return 1;
    db = pg_schema_open(SCHEMA);
    pl_rand_seed(&rnd, 42);
    pl_log_level(PL_ERROR);
    provider_start();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_webhook_message_is_signed_sent_once_and_wiped, each_test),
        cmocka_unit_test_setup(a_sent_message_is_done_when_nothing_more_comes, each_test),
        cmocka_unit_test_setup(a_failing_provider_is_asked_again_later_with_the_same_id, each_test),
        cmocka_unit_test_setup(a_refused_message_is_dead_at_once_and_a_failing_one_after_eight_tries, each_test),
        cmocka_unit_test_setup(s_p10_not_sent_when_older_than_half_its_life, each_test),
        cmocka_unit_test_setup(s_p10_without_a_provider_it_is_readable_until_the_pin_dies, each_test),
        cmocka_unit_test_setup(s_a10_where_a_provider_delivers_no_operator_reads_along, each_test),
        cmocka_unit_test_setup(s_p10_the_row_holds_neither_pin_nor_address, each_test),
        cmocka_unit_test_setup(a_lost_lease_is_taken_over_after_its_time, each_test),
        cmocka_unit_test_setup(the_mail_has_its_form, each_test),
        cmocka_unit_test_setup(what_a_person_typed_makes_no_lines, each_test),
        cmocka_unit_test_setup(what_is_no_header_is_never_made_one, each_test),
        cmocka_unit_test_setup(a_message_that_was_sealed_without_a_locale_is_read, each_test),
        cmocka_unit_test_setup(settings_that_cannot_work_are_refused, each_test),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    provider_stop();
    db_close(db);
    pl_arena_free(arena);
    return failed;
}
