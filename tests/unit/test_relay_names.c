/* Where porchlightd is, when the answer of the name server comes late or not at all. The process that looks up is played here: no name is asked for, nothing sleeps. */
#include "relay_names.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER = 1 + RELAY_NAMES_MOST * LINK_ADDRESS };

/* The relay's side, and in *ret_fd the other end. */
static struct relay_names names_new(int *ret_fd)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *ret_fd = pair[1];
    return (struct relay_names){ .fd = pair[0] };
}

static void answer(int fd, const char *const *addresses)
{
    uint8_t text[ANSWER] = { 0 };
    size_t n = 0;
    for (; addresses[n]; n++)
        memcpy(text + 1 + n * LINK_ADDRESS, addresses[n], strlen(addresses[n]));
    text[0] = (uint8_t)n;
    assert_int_equal(send(fd, text, 1 + n * LINK_ADDRESS, 0), 1 + n * LINK_ADDRESS);
}

/* Plays the process: how many questions have come. */
static unsigned questions(int fd)
{
    uint8_t question;
    unsigned n = 0;
    while (recv(fd, &question, 1, MSG_DONTWAIT) == 1)
        n++;
    return n;
}

/* Of two name servers the first is dead, and an answer takes five seconds, longer than a try waits: the next try has it. */
static void a_late_answer_is_an_answer(void **state)
{
    (void)state;
    char address[LINK_ADDRESS];
    int fd;
    struct relay_names names = names_new(&fd);
    names.asked = true; /* a try that waited in vain */
    answer(fd, (const char *const[]){ "192.0.2.7", "2001:db8::7", NULL });
    assert_int_equal(shutdown(fd, SHUT_WR), 0); /* to the question of this try there is none */
    assert_true(relay_names_next(&names, address));
    assert_string_equal(address, "192.0.2.7");
    assert_int_equal(questions(fd), 1); /* the cloud may have moved since */
    assert_true(relay_names_next(&names, address));
    assert_string_equal(address, "2001:db8::7");
    close(fd);
    relay_names_stop(&names);
}

/* Tries that come faster than answers do not queue up before the name server, and live on what was known. */
static void one_question_is_asked_at_a_time(void **state)
{
    (void)state;
    char address[LINK_ADDRESS];
    int fd;
    struct relay_names names = names_new(&fd);
    names.n = 1;
    memcpy(names.addresses[0], "192.0.2.8", sizeof "192.0.2.8");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(relay_names_next(&names, address));
        assert_string_equal(address, "192.0.2.8");
    }
    assert_int_equal(questions(fd), 1);
    close(fd);
    relay_names_stop(&names);
}

/* The newest answer counts, and one that found nothing takes nothing away. */
static void what_is_known_stays_until_there_is_better(void **state)
{
    (void)state;
    char address[LINK_ADDRESS];
    int fd;
    struct relay_names names = names_new(&fd);
    answer(fd, (const char *const[]){ "192.0.2.9", NULL });
    assert_true(relay_names_next(&names, address));
    assert_string_equal(address, "192.0.2.9");
    answer(fd, (const char *const[]){ NULL });
    assert_true(relay_names_next(&names, address));
    assert_string_equal(address, "192.0.2.9");
    answer(fd, (const char *const[]){ "192.0.2.10", NULL });
    assert_true(relay_names_next(&names, address));
    assert_string_equal(address, "192.0.2.10");
    assert_int_equal(questions(fd), 3);
    close(fd);
    relay_names_stop(&names);
}

/* The real process, and a name that every machine knows. */
static void a_name_is_looked_up(void **state)
{
    (void)state;
    struct relay_names names = { .fd = -1 };
    char address[LINK_ADDRESS];
    assert_int_equal(relay_names_start("ws://localhost:1/relay/v1", &names, /* reterr= */ NULL), PL_OK);
    assert_true(relay_names_next(&names, address));
    assert_true(strcmp(address, "127.0.0.1") == 0 || strcmp(address, "::1") == 0);
    relay_names_stop(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_late_answer_is_an_answer),
        cmocka_unit_test(one_question_is_asked_at_a_time),
        cmocka_unit_test(what_is_known_stays_until_there_is_better),
        cmocka_unit_test(a_name_is_looked_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
