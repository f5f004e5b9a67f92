package sockerless.tour;

import org.testcontainers.containers.GenericContainer;
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
    return new GenericContainer<>(SHELL).withCommand("sh", "-c", script + "; exec sleep 600");
  }

  static GenericContainer<?> web() {
    return new GenericContainer<>(WEB).withExposedPorts(80);
  }
}
