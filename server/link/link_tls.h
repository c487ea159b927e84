/* link_tls.h - TLS by OpenSSL: the contexts of both sides, and on the serving one handshakes and the pump. Private to link/.
 *
 * libwebsockets could do TLS by itself, but only when it is known which of its contexts a socket is for; that stands in the path, behind the handshake. So the door
 * shakes hands, in its own thread, where ten thousand hubs that come back delay nobody who is connected, and reads the request. Then the connection goes to its class's
 * thread: there a pump carries bytes between the TLS socket and a socket pair, whose other end libwebsockets takes for the peer. A pump holds no buffer while both
 * sides take what comes; one that does not stops the other from being read. It ends when libwebsockets has closed its end and the rest is out, or after 5 s.
 * Not here: when a handshake is too late (link_door.c), who is on the other side (hello).
 * Threads: what is made in the door's thread is used in the class's after link_thread_give.  Memory: about 13 KiB a connection, nearly all of it OpenSSL's.
 *     e = link_tls_shake(ssl);     …     e = link_pump_new(conn, ssl, head, &conn->pump);     …     e = link_pump_start(conn->pump);
 */
#pragma once
#include "link_int.h"
#include <openssl/ssl.h>

/* TLS 1.2 and 1.3, no renegotiation, no session cache. PL_INVALID_REQUEST with a sentence: a file that cannot be read, or a key that is not the certificate's. */
PL_MUST enum pl_err link_tls_serve(const char *cert, const char *key, SSL_CTX **ret, struct pl_fail *reterr);
/* For one server: its name or address must stand in its certificate. ca_file NULL: the system's bundle. All files are read here. PL_INVALID_REQUEST: none can be. */
PL_MUST enum pl_err link_tls_dial(const char *ca_file, const char *host, SSL_CTX **ret, struct pl_fail *reterr);

/* The serving end on a socket that does not block, which stays the caller's. NULL: no memory. */
SSL *link_tls_new(SSL_CTX *ctx, int fd);
/* Goes on with the handshake. PL_SHORT: the other side is waited for. PL_IO: it failed. */
PL_MUST enum pl_err link_tls_shake(SSL *ssl);
/* PL_SHORT: nothing is there yet. PL_IO: the end, orderly or not. */
PL_MUST enum pl_err link_tls_read(SSL *ssl, char *mem, size_t cap, size_t *ret_n);
/* A last word and the goodbye, as far as the socket takes them. */
void link_tls_say(SSL *ssl, struct pl_str text);

struct link_pump;
/* Takes over ssl, its socket, the connection's slot (link_slot_take), and a reference; sets conn->fd. head: what was read already. On an error nothing is taken over. */
PL_MUST enum pl_err link_pump_new(struct link_conn *conn, SSL *ssl, struct pl_str head, struct link_pump **ret);
/* On the thread of the class. On an error it is gone, and conn->fd is the caller's. */
PL_MUST enum pl_err link_pump_start(struct link_pump *p);
/* Ends it now, started or not; conn->pump is NULL then. */
void link_pump_end(struct link_pump *p);
/* Bytes that libwebsockets was given, WebSocket headers included. */
uint64_t link_pump_taken(const struct link_pump *p);
/* Ends those whose last bytes nobody takes. Each tick. */
void link_pump_watch(struct link_thread *t);
/* Ends all of a thread's. */
void link_pump_end_all(struct link_thread *t);
