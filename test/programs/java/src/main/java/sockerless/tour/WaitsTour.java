package sockerless.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.model.HealthCheck;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.testcontainers.containers.ContainerLaunchException;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.startupcheck.MinimumDurationRunningStartupCheckStrategy;
import org.testcontainers.containers.startupcheck.OneShotStartupCheckStrategy;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.containers.wait.strategy.WaitAllStrategy;

/** How a container's start is waited for. */
class WaitsTour {
  private static final Duration SHORT = Duration.ofSeconds(5);

  @Test
  void listeningPort() {
    try (GenericContainer<?> web = Images.web().waitingFor(Wait.forListeningPort())) {
      web.start();
      assertTrue(web.isRunning());
      assertTrue(web.getMappedPort(80) > 0);
    }
  }

  @Test
  void listeningPortThatIsOpenedLate() {
    try (GenericContainer<?> web =
        Images.web().withCommand("sh", "-c", "sleep 2; exec httpd -f -p 80 -h /usr/share/nginx/html")) {
      web.start();
      assertTrue(web.isRunning());
    }
  }

  @Test
  void http() {
    try (GenericContainer<?> web =
        Images.web()
            .waitingFor(
                Wait.forHttp("/index.html")
                    .forPort(80)
                    .forStatusCode(200)
                    .forResponsePredicate(body -> body.contains("Welcome to nginx")))) {
      web.start();
      assertTrue(web.isRunning());
    }
  }

  @Test
  void httpStatusThatNeverComesFails() {
    try (GenericContainer<?> web =
        Images.web().waitingFor(Wait.forHttp("/nowhere").forStatusCode(200).withStartupTimeout(SHORT))) {
      assertThrows(ContainerLaunchException.class, web::start);
    }
  }

  @Test
  void logMessage() {
    try (GenericContainer<?> shell =
        Images.shell("echo one; sleep 1; echo ready; echo ready")
            .waitingFor(Wait.forLogMessage(".*ready.*\\n", 2))) {
      shell.start();
      assertEquals("one\nready\nready\n", shell.getLogs());
    }
  }

  @Test
  void logMessageThatNeverComesFails() {
    try (GenericContainer<?> shell =
        Images.shell("echo one").waitingFor(Wait.forLogMessage(".*two.*", 1).withStartupTimeout(SHORT))) {
      assertThrows(ContainerLaunchException.class, shell::start);
      assertFalse(shell.isRunning());
    }
  }

  @Test
  void healthcheck() {
    long second = TimeUnit.SECONDS.toNanos(1);
    HealthCheck check =
        new HealthCheck()
            .withTest(List.of("CMD-SHELL", "test -e /tmp/up"))
            .withInterval(second)
            .withTimeout(2 * second)
            .withRetries(30);
    try (GenericContainer<?> shell =
        Images.shell("sleep 1; touch /tmp/up")
            .withCreateContainerCmdModifier(command -> command.withHealthcheck(check))
            .waitingFor(Wait.forHealthcheck())) {
      shell.start();
      assertTrue(shell.isHealthy());
    }
  }

  @Test
  void successfulCommand() {
    try (GenericContainer<?> shell =
        Images.shell("sleep 1; touch /tmp/up").waitingFor(Wait.forSuccessfulCommand("test -e /tmp/up"))) {
      shell.start();
      assertTrue(shell.isRunning());
    }
  }

  @Test
  void allOfSeveral() {
    WaitAllStrategy all =
        new WaitAllStrategy()
            .withStrategy(Wait.forListeningPort())
            .withStrategy(Wait.forHttp("/"))
            .withStrategy(Wait.forSuccessfulCommand("true"));
    try (GenericContainer<?> web = Images.web().waitingFor(all)) {
      web.start();
      assertTrue(web.isRunning());
    }
  }

  @Test
  void oneShot() {
    try (GenericContainer<?> once =
        new GenericContainer<>(Images.SHELL)
            .withCommand("sh", "-c", "echo done")
            .withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
      once.start();
      assertEquals("done\n", once.getLogs());
      assertEquals(0L, once.getCurrentContainerInfo().getState().getExitCodeLong());
    }
  }

  @Test
  void oneShotThatFails() {
    try (GenericContainer<?> once =
        new GenericContainer<>(Images.SHELL)
            .withCommand("sh", "-c", "exit 3")
            .withStartupCheckStrategy(new OneShotStartupCheckStrategy())) {
      assertThrows(ContainerLaunchException.class, once::start);
    }
  }

  @Test
  void minimumDuration() {
    try (GenericContainer<?> shell =
        Images.shell("true")
            .withStartupCheckStrategy(
                new MinimumDurationRunningStartupCheckStrategy(Duration.ofSeconds(1)))) {
      shell.start();
      assertTrue(shell.isRunning());
    }
  }

  @Test
  void aStartIsTriedAgain() {
    try (GenericContainer<?> shell =
        new GenericContainer<>(Images.SHELL)
            .withCommand("sh", "-c", "exit 1")
            .withStartupAttempts(3)
            .waitingFor(Wait.forLogMessage(".*never.*", 1).withStartupTimeout(SHORT))) {
      assertThrows(ContainerLaunchException.class, shell::start);
    }
  }
}
