import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.CreateContainerCmd;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.httpclient5.ApacheDockerHttpClient;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.OutputStreamWriter;
import java.io.PrintWriter;
import java.net.StandardProtocolFamily;
import java.net.URI;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * The life of an agent as Jenkins' docker plugin has it, with its connector that attaches, by docker-java and, for the start
 * of the agent's program, by a request of the plugin's own, whose lines end with a line feed alone. Arguments: an image with
 * a shell, a volume, and the file that is the agent's program.
 */
public final class AgentLife {
  private static final String FOLDER = "/home/jenkins";
  private static final Map<String, String> LABELS =
      Map.of(
          "com.nirima.jenkins.plugins.docker.JenkinsId", "0123456789abcdef",
          "com.nirima.jenkins.plugins.docker.TemplateName", "agent",
          "com.nirima.jenkins.plugins.docker.RemoveVolumes", "true");

  private AgentLife() {}

  public static void main(String[] args) throws Exception {
    String image = args[0];
    DefaultDockerClientConfig config = DefaultDockerClientConfig.createDefaultConfigBuilder().build();
    ApacheDockerHttpClient http = new ApacheDockerHttpClient.Builder().dockerHost(config.getDockerHost()).build();
    try (DockerClient client = DockerClientImpl.getInstance(config, http)) {
      client.pullImageCmd(image).start().awaitCompletion();
      client.inspectImageCmd(image).exec();
      String id = create(client, image, args[1]);
      client.copyArchiveToContainerCmd(id).withHostResource(args[2]).withRemotePath(FOLDER).exec();
      client.startContainerCmd(id).exec();
      InspectContainerResponse inspected = client.inspectContainerCmd(id).exec();
      check(Boolean.TRUE.equals(inspected.getState().getRunning()), "it runs");
      check(inspected.getConfig().getLabels().entrySet().containsAll(LABELS.entrySet()), "it has its labels");

      String program = FOLDER + args[2].substring(args[2].lastIndexOf('/'));
      talk(client, config.getDockerHost(), id, program);

      // The plugin's watchdog looks for containers whose node is gone.
      var listed = client.listContainersCmd().withShowAll(true).withLabelFilter(LABELS).exec();
      check(listed.size() == 1 && listed.get(0).getId().equals(id), "it is found by its labels");
      client.stopContainerCmd(id).withTimeout(10).exec();
      client.removeContainerCmd(id).withRemoveVolumes(true).exec();
      try {
        client.inspectContainerCmd(id).exec();
        check(false, "it is gone");
      } catch (NotFoundException expected) {
        System.out.println("the agent has lived");
      }
    }
  }

  @SuppressWarnings("deprecation") // The plugin sets these so.
  private static String create(DockerClient client, String image, String volume) {
    CreateContainerCmd command =
        client
            .createContainerCmd(image)
            .withHostName("agent")
            .withEnv("MADE=by the plugin")
            .withMemory(512L << 20)
            .withBinds(com.github.dockerjava.api.model.Bind.parse(volume + ":/cache"))
            .withExtraHosts("jenkins.example:192.0.2.7")
            .withPrivileged(false)
            .withLabels(LABELS);
    // A command that waits, on a terminal that nobody reads or writes.
    return command.withCmd("/bin/sh").withTty(true).withAttachStdin(false).exec().getId();
  }

  /** Starts the agent's program by an exec, and talks with it as Jenkins' remoting does: in both directions at once. */
  private static void talk(DockerClient client, URI daemon, String id, String program) throws Exception {
    String[] command = {"sh", program, "-noReconnect", "-noKeepAlive", "-agentLog", FOLDER + "/agent.log"};
    String exec =
        client
            .execCreateCmd(id)
            .withAttachStdin(true)
            .withAttachStdout(true)
            .withAttachStderr(true)
            .withTty(false)
            .withCmd(command)
            .exec()
            .getId();
    String version = client.versionCmd().exec().getApiVersion();
    try (SocketChannel socket = SocketChannel.open(StandardProtocolFamily.UNIX)) {
      socket.connect(UnixDomainSocketAddress.of(daemon.getPath()));
      OutputStream out = outputOf(socket);
      InputStream in = new BufferedInputStream(inputOf(socket));
      String body = "{ \"Detach\": false, \"Tty\": false }";
      PrintWriter writer = new PrintWriter(new OutputStreamWriter(out, StandardCharsets.US_ASCII));
      String request = "POST /v" + version + "/exec/" + exec + "/start HTTP/1.1";
      List<String> header =
          List.of("Host: docker.sock", "Content-Type: application/json", "Upgrade: tcp", "Connection: Upgrade");
      writer.println(request);
      header.forEach(writer::println);
      writer.println("Content-Length: " + body.length());
      writer.println();
      writer.println(body);
      writer.flush();

      String status = readLine(in);
      check(status.startsWith("HTTP/1.1 101 "), "it answers: " + status);
      while (!readLine(in).isEmpty()) {}
      Frames frames = new Frames(in);
      String greeting = "<===[JENKINS REMOTING CAPACITY]===>by the plugin 192.0.2.7\n";
      check(new String(frames.read(greeting.length()), StandardCharsets.UTF_8).equals(greeting), "it greets");

      byte[] sent = new byte[3_000_000];
      new Random(1).nextBytes(sent);
      Thread sender =
          new Thread(
              () -> {
                try {
                  out.write("begin\n".getBytes(StandardCharsets.US_ASCII));
                  out.write(sent);
                } catch (IOException error) {
                  error.printStackTrace();
                }
              });
      sender.start();
      check(java.util.Arrays.equals(frames.read(sent.length), sent), "it sends back what it was sent");
      sender.join();
      check(frames.errors().equals("agent began\n"), "its log comes apart: " + frames.errors());
    }
  }

  // Those of Channels take turns: one that writes keeps the other from reading.

  private static OutputStream outputOf(SocketChannel socket) {
    return new OutputStream() {
      @Override
      public void write(int one) throws IOException {
        write(new byte[] {(byte) one}, 0, 1);
      }

      @Override
      public void write(byte[] bytes, int start, int length) throws IOException {
        for (ByteBuffer rest = ByteBuffer.wrap(bytes, start, length); rest.hasRemaining(); ) {
          socket.write(rest);
        }
      }
    };
  }

  private static InputStream inputOf(SocketChannel socket) {
    return new InputStream() {
      @Override
      public int read() throws IOException {
        byte[] one = new byte[1];
        return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
      }

      @Override
      public int read(byte[] bytes, int start, int length) throws IOException {
        return socket.read(ByteBuffer.wrap(bytes, start, length));
      }
    };
  }

  private static String readLine(InputStream in) throws IOException {
    StringBuilder line = new StringBuilder();
    for (int read = in.read(); read > 0 && read != '\n'; read = in.read()) {
      if (read != '\r') {
        line.append((char) read);
      }
    }
    return line.toString();
  }

  private static void check(boolean isSo, String what) {
    if (!isSo) {
      throw new AssertionError("not so: " + what);
    }
  }

  /** The program's output, out of Docker's frames. */
  private static final class Frames {
    private final DataInputStream in;
    private final ByteArrayOutputStream output = new ByteArrayOutputStream();
    private final ByteArrayOutputStream errors = new ByteArrayOutputStream();

    Frames(InputStream in) {
      this.in = new DataInputStream(in);
    }

    byte[] read(int length) throws IOException {
      while (output.size() < length) {
        int stream = in.read();
        if (stream < 0) {
          throw new EOFException("after " + output.size() + " bytes");
        }
        in.readNBytes(3);
        (stream == 2 ? errors : output).write(in.readNBytes(in.readInt()));
      }
      byte[] all = output.toByteArray();
      output.reset();
      output.write(all, length, all.length - length);
      return java.util.Arrays.copyOf(all, length);
    }

    String errors() {
      return errors.toString(StandardCharsets.UTF_8);
    }
  }
}
