package sockerless.tour;

import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.utility.DockerImageName;

/** Images of the tour, and containers of them. */
final class Images {
  /** A shell and the usual commands. */
  static final DockerImageName SHELL = DockerImageName.parse("alpine:latest");

  /** Serves a page at port 80, with a shell beside it. */
  static final DockerImageName WEB = DockerImageName.parse("nginx:alpine");

  private Images() {}

  /** A container that runs a script, and goes on. */
  static GenericContainer<?> shell(String script) {
    return container(SHELL).withCommand("sh", "-c", script + "; exec sleep 600");
  }

  static GenericContainer<?> web() {
    return container(WEB).withExposedPorts(80);
  }

  /**
   * A container with a wait strategy of its own. The default one is a single object for all containers and remembers
   * the container that it waits for, so containers that start at once wait for each other's ports.
   */
  private static GenericContainer<?> container(DockerImageName image) {
    return new GenericContainer<>(image).waitingFor(Wait.defaultWaitStrategy());
  }
}
