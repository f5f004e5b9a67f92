/**
 * Has testcontainers build the Dockerfile of a directory for a container, with BuildKit where the second argument says so,
 * and prints the image's name, the session's label and what the container says. NODE_PATH says where testcontainers is.
 */
const { GenericContainer, Wait } = require("testcontainers");

async function main() {
  const [directory, buildkit] = process.argv.slice(2);
  const builder = GenericContainer.fromDockerfile(directory).withBuildArgs({ WHO: "Node" });
  const image = await (buildkit === "buildkit" ? builder.withBuildkit() : builder).build();
  const container = await image.withWaitStrategy(Wait.forOneShotStartup()).start();
  const output = await container.logs();
  const said = await output.toArray();
  await container.stop();
  process.stdout.write(`${image.imageName.string}\n${said.join("")}`);
}

// testcontainers' own connections do not keep a process alive.
const alive = setInterval(() => {}, 60_000);
main()
  .catch((error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  })
  .finally(() => clearInterval(alive));
