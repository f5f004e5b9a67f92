package sockerless.tour;

import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.Network;

/** Starts a container on a network, tells their IDs, and ends as one that is killed. */
final class Leaver {
  private Leaver() {}

  public static void main(String[] args) {
    Network network = Network.newNetwork();
    GenericContainer<?> shell = Images.shell("true").withNetwork(network);
    shell.start();
    System.out.println(shell.getContainerId());
    System.out.println(network.getId());
    System.out.flush();
    Runtime.getRuntime().halt(137);
  }
}
