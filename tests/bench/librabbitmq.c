/* Publishes persistent, mandatory, confirmed messages with a window, by librabbitmq.
 *
 *   librabbitmq HOST PORT USER PASSWORD VHOST QUEUE MESSAGES BYTES WINDOW ID_BYTES
 *
 * With ID_BYTES above 0 each message has an id of that size and a timestamp, as those of rmq_publisher
 * have: the size of the properties is part of what a message costs the broker.
 *
 * Prints the seconds from the first publish to the last confirm and the CPU seconds of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

static void fail(const char *what) {
  fprintf(stderr, "librabbitmq: %s\n", what);
  exit(1);
}

static void expect(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double wall(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* Acks come out of order, and a multiple one speaks of all tags up to its own. */
static long confirmed = 0;
static unsigned char *acked;
static long lowest = 1; /* the lowest tag that is not confirmed */

static void note(long tag, int multiple) {
  if (multiple) {
    for (; lowest <= tag; lowest++)
      if (!acked[lowest]) { acked[lowest] = 1; confirmed++; }
  } else if (!acked[tag]) {
    acked[tag] = 1;
    confirmed++;
  }
  while (acked[lowest]) lowest++;
}

static void take_frame(amqp_connection_state_t connection) {
  amqp_frame_t frame;
  if (amqp_simple_wait_frame(connection, &frame) != AMQP_STATUS_OK) fail("the connection was lost");
  if (frame.frame_type != AMQP_FRAME_METHOD) return;
  if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD) fail("not an ack");
  amqp_basic_ack_t *ack = frame.payload.method.decoded;
  note((long)ack->delivery_tag, ack->multiple);
}

int main(int argc, char **argv) {
  if (argc != 11) fail("wrong number of arguments");
  long messages = atol(argv[7]), size = atol(argv[8]), window = atol(argv[9]);
  int id_size = atoi(argv[10]);
  char id[256];
  if (id_size >= (int)sizeof id) fail("the id is too long");
  acked = calloc((size_t)messages + 2, 1);
  char *content = malloc((size_t)size);
  if (!acked || !content) fail("no memory");
  memset(content, ' ', (size_t)size);
  content[0] = '{';
  content[size - 1] = '}';

  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  if (amqp_socket_open(socket, argv[1], atoi(argv[2])) != AMQP_STATUS_OK) fail("no connection");
  expect(amqp_login(connection, argv[5], 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN,
                    argv[3], argv[4]), "login refused");
  amqp_channel_open(connection, 1);
  expect(amqp_get_rpc_reply(connection), "no channel");
  amqp_confirm_select(connection, 1);
  expect(amqp_get_rpc_reply(connection), "no confirms");

  amqp_bytes_t body = {(size_t)size, content};
  amqp_basic_properties_t properties = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG,
      .content_type = amqp_cstring_bytes("application/json"),
      .delivery_mode = 2,
  };
  if (id_size > 0) {
    properties._flags |= AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG;
    properties.timestamp = (uint64_t)time(NULL);
  }
  double started = wall(), used = cpu();
  for (long sent = 0; confirmed < messages;) {
    while (sent < messages && sent - confirmed < window) {
      if (id_size > 0) {
        snprintf(id, sizeof id, "%0*ld", id_size, sent);
        properties.message_id = amqp_cstring_bytes(id);
      }
      if (amqp_basic_publish(connection, 1, amqp_empty_bytes, amqp_cstring_bytes(argv[6]), 1, 0,
                             &properties, body) != AMQP_STATUS_OK)
        fail("not sent");
      sent++;
    }
    do take_frame(connection);
    while (confirmed < sent && (amqp_frames_enqueued(connection) || amqp_data_in_buffer(connection)));
    amqp_maybe_release_buffers(connection);
  }
  printf("%.6f %.6f\n", wall() - started, cpu() - used);
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  return 0;
}
