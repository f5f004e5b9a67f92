package sockerless.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Map;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.testcontainers.containers.Container.ExecResult;
import org.testcontainers.containers.ExecConfig;
import org.testcontainers.containers.GenericContainer;

/** Commands in a container that runs. */
class ExecsTour {
  private static final GenericContainer<?> SHELL = Images.shell("true");

  @BeforeAll
  static void start() {
    SHELL.start();
  }

  @AfterAll
  static void stop() {
    SHELL.stop();
  }

  @Test
  void streamsApartAndTheCode() throws Exception {
    ExecResult result = SHELL.execInContainer("sh", "-c", "echo out; echo err >&2; exit 7");
    assertEquals("out\n", result.getStdout());
    assertEquals("err\n", result.getStderr());
    assertEquals(7, result.getExitCode());
  }

  @Test
  void muchOutput() throws Exception {
    ExecResult result = SHELL.execInContainer("sh", "-c", "yes 0123456789 | head -n 200000");
    assertEquals(200_000 * 11, result.getStdout().length());
  }

  @Test
  void commandThatIsNotThere() throws Exception {
    assertEquals(127, SHELL.execInContainer("nosuch").getExitCode());
  }

  @Test
  void userFolderAndEnvironment() throws Exception {
    ExecConfig config =
        ExecConfig.builder()
            .user("1000:1000")
            .workDir("/tmp")
            .envVars(Map.of("WORD", "a b"))
            .command(new String[] {"sh", "-c", "echo $(id -u):$(id -g) $(pwd) \"$WORD\""})
            .build();
    assertEquals("1000:1000 /tmp a b\n", SHELL.execInContainer(config).getStdout());
  }

  @Test
  void manyOneAfterTheOther() throws Exception {
    for (int i = 0; i < 30; i++) {
      assertEquals(i + "\n", SHELL.execInContainer("echo", Integer.toString(i)).getStdout());
    }
  }
}
