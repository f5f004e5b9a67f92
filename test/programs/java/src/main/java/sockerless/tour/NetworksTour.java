package sockerless.tour;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.Ports;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import org.junit.jupiter.api.Test;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.Network;
import org.testcontainers.containers.wait.strategy.Wait;

/** Networks, names on them, and ports of the machine. */
class NetworksTour {
  @Test
  void aliasesAreReached() throws Exception {
    try (Network network = Network.newNetwork();
        GenericContainer<?> web = Images.web().withNetwork(network).withNetworkAliases("page", "site");
        GenericContainer<?> shell = Images.shell("true").withNetwork(network)) {
      web.start();
      shell.start();
      for (String alias : new String[] {"page", "site"}) {
        assertTrue(
            shell.execInContainer("wget", "-qO-", "http://" + alias + "/").getStdout().contains("Welcome"));
      }
    }
  }

  @Test
  void networksAreApart() throws Exception {
    try (Network one = Network.newNetwork();
        Network other = Network.newNetwork();
        GenericContainer<?> web = Images.web().withNetwork(one).withNetworkAliases("page");
        GenericContainer<?> shell = Images.shell("true").withNetwork(other)) {
      web.start();
      shell.start();
      assertNotEquals(0, shell.execInContainer("wget", "-T", "3", "-qO-", "http://page/").getExitCode());
    }
  }

  @Test
  void aNetworkIsGoneWithItsEnd() {
    String id;
    try (Network network = Network.newNetwork()) {
      id = network.getId();
      assertEquals(1, named(id));
    }
    assertEquals(0, named(id));
  }

  @Test
  void mappedPorts() throws Exception {
    try (GenericContainer<?> web = Images.web()) {
      web.start();
      assertTrue(get(web.getHost(), web.getMappedPort(80)).contains("Welcome"));
      assertEquals(web.getMappedPort(80), web.getFirstMappedPort());
    }
  }

  @Test
  void boundPortsAreRead() {
    try (GenericContainer<?> web = Images.web().withExposedPorts(80, 8080)) {
      web.waitingFor(Wait.forHttp("/").forPort(80));
      web.start();
      Ports ports = web.getCurrentContainerInfo().getNetworkSettings().getPorts();
      assertEquals(2, ports.getBindings().size());
      assertTrue(ports.getBindings().get(ExposedPort.tcp(80)).length > 0);
    }
  }

  private static int named(String id) {
    return DockerClientFactory.lazyClient().listNetworksCmd().withIdFilter(id).exec().size();
  }

  private static String get(String host, int port) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + host + ":" + port + "/")).build();
    return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
  }
}
