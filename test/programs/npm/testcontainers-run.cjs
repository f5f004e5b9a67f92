/**
 * Has testcontainers run a container of an image, and leaves it to the reaper: prints its ID and what a command in it says.
 * NODE_PATH says where testcontainers is.
 */
const { GenericContainer, Wait } = require("testcontainers");

async function main() {
  const [image] = process.argv.slice(2);
  const container = await new GenericContainer(image)
    .withCommand(["sh", "-c", "echo ready; exec sleep 100000"])
    .withWaitStrategy(Wait.forLogMessage("ready"))
    .start();
  const { output } = await container.exec(["echo", "said inside"]);
  process.stdout.write(`${container.getId()}\n${output}`);
}

// testcontainers' own connections do not keep a process alive; its connection to the reaper is not to, once all is said.
const alive = setInterval(() => {}, 60_000);
main()
  .catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  })
  .finally(() => clearInterval(alive));
