/** The Docker socket inside a job. */
import { AcaDaemon } from "../support/aca-daemon.ts";
import { describeInnerSocket } from "../support/inner-socket.ts";

describeInnerSocket(async () => {
  const aca = await AcaDaemon.start({ aca: { inner_socket: "own" } });
  const { daemon, account } = aca;
  return { daemon, registry: account.registry, [Symbol.asyncDispose]: () => aca[Symbol.asyncDispose]() };
});
