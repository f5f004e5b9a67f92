/** The Docker socket inside a task, as clients that run in one use it. */
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { describeInnerSocket } from "../support/inner-socket.ts";
import { TestRegistry } from "../support/registry.ts";

describeInnerSocket(async () => {
  await using resources = new AsyncDisposableStack();
  const registry = resources.use(await TestRegistry.start());
  const { daemon } = resources.use(await EcsDaemon.start({ ecs: { inner_socket: "own" } }));
  const own = resources.move();
  return { daemon, registry, [Symbol.asyncDispose]: () => own.disposeAsync() };
});
