package sockerless.tour;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.github.dockerjava.api.exception.NotFoundException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.images.builder.Transferable;
import org.testcontainers.utility.MountableFile;

/** Files into containers and out of them. */
class CopiesTour {
  @TempDir Path folder;

  @Test
  void beforeTheStart() throws Exception {
    try (GenericContainer<?> shell =
        Images.shell("cat /etc/tour/word").withCopyToContainer(Transferable.of("early", 0640), "/etc/tour/word")) {
      shell.start();
      assertEquals("640 0:0\n", stat(shell, "/etc/tour/word"));
      assertEquals("early", shell.execInContainer("cat", "/etc/tour/word").getStdout());
    }
  }

  @Test
  void folderBeforeTheStart() throws Exception {
    Files.createDirectories(folder.resolve("a/b"));
    Files.writeString(folder.resolve("a/b/file"), "deep");
    try (GenericContainer<?> shell =
        Images.shell("true").withCopyFileToContainer(MountableFile.forHostPath(folder.resolve("a")), "/srv/a")) {
      shell.start();
      assertEquals("deep", shell.execInContainer("cat", "/srv/a/b/file").getStdout());
    }
  }

  @Test
  void whileItRuns() throws Exception {
    try (GenericContainer<?> shell = Images.shell("true")) {
      shell.start();
      shell.copyFileToContainer(Transferable.of("late", 0755), "/opt/deep/er/word");
      assertEquals("755 0:0\n", stat(shell, "/opt/deep/er/word"));
    }
  }

  @Test
  void thereAndBack() throws Exception {
    byte[] bytes = new byte[3_000_000];
    new Random(1).nextBytes(bytes);
    Path sent = Files.write(folder.resolve("sent"), bytes);
    Path received = folder.resolve("received");
    try (GenericContainer<?> shell = Images.shell("true")) {
      shell.start();
      shell.copyFileToContainer(MountableFile.forHostPath(sent), "/tmp/bytes");
      shell.copyFileFromContainer("/tmp/bytes", received.toString());
      assertArrayEquals(bytes, Files.readAllBytes(received));
      String word =
          shell.copyFileFromContainer("/etc/passwd", stream -> new String(stream.readAllBytes(), UTF_8));
      assertEquals("root:", word.substring(0, 5));
    }
  }

  @Test
  void fromNowhereFails() {
    try (GenericContainer<?> shell = Images.shell("true")) {
      shell.start();
      assertThrows(
          NotFoundException.class,
          () -> shell.copyFileFromContainer("/nowhere", stream -> stream.readAllBytes()));
    }
  }

  private static String stat(GenericContainer<?> container, String path) throws Exception {
    return container.execInContainer("stat", "-c", "%a %u:%g", path).getStdout();
  }
}
