package sockerless.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.output.OutputFrame;
import org.testcontainers.containers.output.OutputFrame.OutputType;
import org.testcontainers.containers.output.ToStringConsumer;
import org.testcontainers.containers.output.WaitingConsumer;
import org.testcontainers.containers.startupcheck.OneShotStartupCheckStrategy;

/** Logs, read and followed. */
class LogsTour {
  @Test
  void streamsApart() {
    try (GenericContainer<?> once = once("echo out; echo err >&2")) {
      once.start();
      assertEquals("out\n", once.getLogs(OutputType.STDOUT));
      assertEquals("err\n", once.getLogs(OutputType.STDERR));
    }
  }

  @Test
  void followedFromTheStart() throws Exception {
    WaitingConsumer waiting = new WaitingConsumer();
    ToStringConsumer all = new ToStringConsumer();
    try (GenericContainer<?> shell =
        new GenericContainer<>(Images.SHELL)
            .withCommand("sh", "-c", "for i in 1 2 3; do echo line $i; sleep 1; done")
            .withLogConsumer(waiting.andThen(all))) {
      shell.start();
      waiting.waitUntil(frame -> frame.getUtf8String().contains("line 2"), 30, TimeUnit.SECONDS);
      waiting.waitUntilEnd(30, TimeUnit.SECONDS);
      assertEquals("line 1\nline 2\nline 3\n", all.toUtf8String());
    }
  }

  @Test
  void followedLater() throws Exception {
    try (GenericContainer<?> shell = Images.shell("echo before; sleep 2; echo after >&2")) {
      shell.start();
      WaitingConsumer waiting = new WaitingConsumer();
      shell.followOutput(waiting, OutputType.STDERR);
      waiting.waitUntil(frame -> frame.getUtf8String().equals("after\n"), 30, TimeUnit.SECONDS);
    }
  }

  @Test
  void muchOutputIsWhole() {
    try (GenericContainer<?> once = once("yes 0123456789 | head -n 200000")) {
      once.start();
      assertEquals(200_000 * 11, once.getLogs().length());
    }
  }

  @Test
  void wordsOfSeveralBytes() {
    try (GenericContainer<?> once = once("echo 'żółw 亀 🐢'")) {
      once.start();
      assertEquals("żółw 亀 🐢\n", once.getLogs());
    }
  }

  @Test
  void framesTellTheirStream() throws Exception {
    WaitingConsumer errors = new WaitingConsumer();
    try (GenericContainer<?> shell = Images.shell("echo err >&2").withLogConsumer(errors)) {
      shell.start();
      errors.waitUntil(frame -> frame.getType() == OutputFrame.OutputType.STDERR, 30, TimeUnit.SECONDS);
    }
  }

  private static GenericContainer<?> once(String script) {
    return new GenericContainer<>(Images.SHELL)
        .withCommand("sh", "-c", script)
        .withStartupCheckStrategy(new OneShotStartupCheckStrategy());
  }
}
