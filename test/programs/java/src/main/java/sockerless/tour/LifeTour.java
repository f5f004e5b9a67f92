package sockerless.tour;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.Capability;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.awaitility.Awaitility;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.BindMode;
import org.testcontainers.containers.ContainerFetchException;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.images.builder.ImageFromDockerfile;
import org.testcontainers.images.builder.Transferable;
import org.testcontainers.lifecycle.Startables;
import org.testcontainers.utility.DockerImageName;

/** Containers from their settings to their end, images that are built, reuse, and the reaper. */
class LifeTour {
  private final DockerClient client = DockerClientFactory.lazyClient();
  @TempDir Path folder;

  @Test
  void settings() throws Exception {
    try (GenericContainer<?> shell =
        Images.shell("true")
            .withEnv("WORD", "a b")
            .withLabel("tour", "settings")
            .withWorkingDirectory("/tmp")
            .withTmpFs(Map.of("/scratch", "rw,size=1m"))
            .withSharedMemorySize(32L << 20)
            .withExtraHost("elsewhere", "192.0.2.7")) {
      shell.start();
      String told = "echo \"$WORD\" $(pwd) $(stat -f -c %T /scratch) $(grep -c elsewhere /etc/hosts)";
      assertEquals("a b /tmp tmpfs 1\n", shell.execInContainer("sh", "-c", told).getStdout());
      assertEquals("settings", shell.getContainerInfo().getConfig().getLabels().get("tour"));
    }
  }

  @Test
  void capabilitiesAreReadAsTheyWereSent() {
    try (GenericContainer<?> shell =
        Images.shell("true")
            .withCreateContainerCmdModifier(
                command ->
                    command
                        .getHostConfig()
                        .withCapAdd(Capability.NET_ADMIN, Capability.SYS_PTRACE)
                        .withCapDrop(Capability.MKNOD))) {
      shell.start();
      InspectContainerResponse inspected = shell.getContainerInfo();
      assertArrayEquals(
          new Capability[] {Capability.NET_ADMIN, Capability.SYS_PTRACE}, inspected.getHostConfig().getCapAdd());
      assertArrayEquals(new Capability[] {Capability.MKNOD}, inspected.getHostConfig().getCapDrop());
    }
  }

  @Test
  void bindOfTheMachine() throws Exception {
    Files.writeString(folder.resolve("file"), "of the machine");
    try (GenericContainer<?> shell =
        Images.shell("true").withFileSystemBind(folder.toString(), "/bound", BindMode.READ_ONLY)) {
      shell.start();
      assertEquals("of the machine", shell.execInContainer("cat", "/bound/file").getStdout());
      assertNotEquals(0, shell.execInContainer("touch", "/bound/other").getExitCode());
    }
  }

  @Test
  void severalAtOnce() {
    List<GenericContainer<?>> several =
        List.of(Images.web(), Images.web(), Images.web(), Images.shell("true"));
    try {
      Startables.deepStart(several).join();
      assertTrue(several.stream().allMatch(GenericContainer::isRunning));
    } finally {
      several.forEach(GenericContainer::stop);
    }
  }

  @Test
  void oneAfterAnother() {
    try (GenericContainer<?> first = Images.web();
        GenericContainer<?> second = Images.shell("true").dependsOn(first)) {
      second.start();
      assertTrue(first.isRunning());
    }
  }

  @Test
  void stoppedIsGone() {
    GenericContainer<?> shell = Images.shell("true");
    shell.start();
    String id = shell.getContainerId();
    shell.stop();
    assertFalse(shell.isRunning());
    assertThrows(NotFoundException.class, () -> client.inspectContainerCmd(id).exec());
  }

  @Test
  void commit() {
    try (GenericContainer<?> shell = Images.shell("echo kept > /kept")) {
      shell.start();
      Awaitility.await()
          .atMost(Duration.ofSeconds(30))
          .until(() -> shell.execInContainer("cat", "/kept").getExitCode() == 0);
      String image =
          client.commitCmd(shell.getContainerId()).withRepository("tour/committed").withTag("1").exec();
      try (GenericContainer<?> after =
          new GenericContainer<>(DockerImageName.parse("tour/committed:1")).withCommand("sleep", "600")) {
        after.start();
        assertEquals("kept\n", after.execInContainer("cat", "/kept").getStdout());
      } catch (Exception e) {
        throw new AssertionError(e);
      } finally {
        client.removeImageCmd(image).withForce(true).exec();
      }
    }
  }

  @Test
  void buildFromADockerfile() throws Exception {
    ImageFromDockerfile image =
        new ImageFromDockerfile()
            .withFileFromTransferable("word", Transferable.of("built"))
            .withBuildArg("MORE", "argued")
            .withDockerfileFromBuilder(
                builder ->
                    builder
                        .from("alpine:latest")
                        .copy("word", "/word")
                        .run("echo ran > /ran")
                        .env("SET", "1")
                        .cmd("sleep", "600")
                        .build());
    try (GenericContainer<?> built = new GenericContainer<>(image)) {
      built.start();
      assertEquals(
          "builtran\n1\n", built.execInContainer("sh", "-c", "cat /word /ran; echo $SET").getStdout());
    }
  }

  @Test
  void buildThatFails() {
    ImageFromDockerfile image =
        new ImageFromDockerfile()
            .withDockerfileFromBuilder(builder -> builder.from("alpine:latest").run("exit 3").build());
    try (GenericContainer<?> built = new GenericContainer<>(image)) {
      assertThrows(ContainerFetchException.class, built::start);
    }
  }

  @Test
  void reuse() {
    try (GenericContainer<?> first = reused("1")) {
      first.start();
      // It is neither stopped nor closed by its owner: the next one of the same settings takes it.
      GenericContainer<?> second = reused("1");
      second.start();
      assertEquals(first.getContainerId(), second.getContainerId());
      try (GenericContainer<?> other = reused("2")) {
        other.start();
        assertNotEquals(first.getContainerId(), other.getContainerId());
      }
    }
  }

  private static GenericContainer<?> reused(String value) {
    return Images.web().withEnv("REUSED", value).withReuse(true);
  }

  /** Another process leaves a container and a network behind, and is gone. */
  @Test
  void theReaperRemovesWhatIsLeft() throws Exception {
    Process leaver =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin/java").toString(),
                "-cp",
                System.getProperty("java.class.path"),
                Leaver.class.getName())
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    List<String> left;
    try (BufferedReader output = new BufferedReader(new InputStreamReader(leaver.getInputStream()))) {
      left = output.lines().collect(Collectors.toList());
    }
    assertEquals(137, leaver.waitFor());
    assertEquals(2, left.size());
    Awaitility.await()
        .atMost(Duration.ofMinutes(1))
        .until(
            () ->
                client.listContainersCmd().withShowAll(true).withIdFilter(left.subList(0, 1)).exec().isEmpty()
                    && client.listNetworksCmd().withIdFilter(left.get(1)).exec().isEmpty());
  }
}
