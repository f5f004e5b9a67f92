/**
 * Has testcontainers run a server and a client of it on a network of their own, and remove both: prints what the server answers
 * at its published port, before and after a restart, what it answers the client, and what both its runs have written. NODE_PATH
 * says where testcontainers is.
 */
const { GenericContainer, Network, Wait } = require("testcontainers");

async function main() {
  const [image] = process.argv.slice(2);
  const network = await new Network().start();
  const server = await new GenericContainer(image)
    .withNetwork(network)
    .withNetworkAliases("server")
    .withCopyContentToContainer([{ content: "served", target: "/www/page" }])
    .withEnvironment({ GREETING: "hello" })
    .withHealthCheck({ test: ["CMD", "test", "-e", "/www/page"], interval: 100 })
    .withExposedPorts(8080)
    .withCommand(["sh", "-c", "echo $GREETING; exec httpd -f -p 8080 -h /www"])
    .withWaitStrategy(
      Wait.forAll([Wait.forHealthCheck(), Wait.forHttp("/page", 8080), Wait.forLogMessage("hello")]),
    )
    .start();
  const page = () => fetch(`http://${server.getHost()}:${server.getMappedPort(8080)}/page`);
  const outside = await (await page()).text();
  const client = await new GenericContainer(image)
    .withNetwork(network)
    .withCommand(["sleep", "100000"])
    .start();
  const { output: inside } = await client.exec(["wget", "-q", "-O-", "http://server:8080/page"]);
  await server.restart();
  const again = await (await page()).text();
  let written = "";
  for await (const chunk of await server.logs()) {
    written += chunk;
    if (written.split("\n").length > 2) {
      break;
    }
  }
  await client.stop();
  await server.stop();
  await network.stop();
  process.stdout.write(JSON.stringify({ outside, inside, again, written }));
}

// testcontainers' own connections do not keep a process alive.
const alive = setInterval(() => {}, 60_000);
main()
  .catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  })
  .finally(() => clearInterval(alive));
