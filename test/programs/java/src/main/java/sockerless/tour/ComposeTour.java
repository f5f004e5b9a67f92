package sockerless.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.containers.ComposeContainer;
import org.testcontainers.containers.ContainerState;
import org.testcontainers.containers.output.WaitingConsumer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.utility.DockerImageName;

/** Projects of compose, by the plugin of this machine and by one in a container. */
class ComposeTour {
  private static final String PROJECT =
      """
      services:
        page:
          image: nginx:alpine
          environment: {WORD: "${WORD:-none}"}
        teller:
          image: alpine:latest
          command: sh -c "until wget -qO- http://page/; do sleep 1; done; exec sleep 600"
          depends_on: [page]
      """;

  @TempDir Path folder;
  private File file;

  @BeforeEach
  void write() throws Exception {
    file = Files.writeString(folder.resolve("compose.yaml"), PROJECT).toFile();
  }

  @Test
  void onThisMachine() throws Exception {
    try (ComposeContainer project = new ComposeContainer(file)) {
      assertProject(project);
    }
  }

  @Test
  void inAContainer() throws Exception {
    DockerImageName image = DockerImageName.parse("docker:24.0.2");
    try (ComposeContainer project = new ComposeContainer(image, file)) {
      assertProject(project);
    }
  }

  @Test
  void scaled() {
    try (ComposeContainer project =
        new ComposeContainer(file).withScaledService("page", 2).withExposedService("page-2", 80)) {
      project.start();
      assertTrue(project.getContainerByServiceName("page-1").isPresent());
      assertTrue(project.getServicePort("page-2", 80) > 0);
    }
  }

  private static void assertProject(ComposeContainer project) throws Exception {
    WaitingConsumer teller = new WaitingConsumer();
    project
        .withEnv("WORD", "told")
        .withExposedService("page-1", 80, Wait.forHttp("/").withStartupTimeout(Duration.ofMinutes(1)))
        .withLogConsumer("teller-1", teller)
        .start();
    URI uri = new URI("http://" + project.getServiceHost("page-1", 80) + ":" + project.getServicePort("page-1", 80));
    assertTrue(new String(uri.toURL().openStream().readAllBytes()).contains("Welcome"));
    teller.waitUntil(frame -> frame.getUtf8String().contains("Welcome"), 60, TimeUnit.SECONDS);
    ContainerState page = project.getContainerByServiceName("page-1").orElseThrow();
    assertEquals("told\n", page.execInContainer("sh", "-c", "echo $WORD").getStdout());
  }
}
