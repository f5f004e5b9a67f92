import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { AgentConnection } from "../../agent-client/connection.ts";
import { grpcTransport } from "../../agent-client/grpc-transport.ts";
import {
  fromUnknown,
  type SockerlessError,
  invalid,
  notFound,
  systemError,
  unavailable,
} from "../../common/errors.ts";
import { HostService } from "../../gen/sockerless/host/v1/host_pb.ts";
import { withRepeatedCalls } from "./repeated-calls.ts";

/** Typed calls to the machine's host process. */
export interface HostClient {
  readonly client: Client<typeof HostService>;
  /** Ends every call with an error. */
  close(): void;
}

/** Settings of {@link createHostClient}. */
export interface HostClientOptions {
  /** Milliseconds that a call waits for a host process; for tests. */
  readonly awayMs?: number;
}

/**
 * A client of the host process at a unix socket; dials on demand, and again after the process was replaced. Calls that
 * fail meanwhile wait for the new one, for a bounded time, and are repeated.
 */
export function createHostClient(socket: string, { awayMs }: HostClientOptions = {}): HostClient {
  const connection = new AgentConnection({
    address: { kind: "unix", path: socket },
    peer: "the host process",
  });
  const transport = grpcTransport(connection, { peer: connection.peer });
  const closed = new AbortController();
  return {
    client: createClient(HostService, withRepeatedCalls(transport, { closed: closed.signal, awayMs })),
    close() {
      closed.abort();
      connection.close();
    },
  };
}

/** Converts a failure of the host process to the engine's errors. Its messages are already worded for users. */
export function fromHostError(error: unknown): SockerlessError {
  if (!(error instanceof ConnectError)) {
    return fromUnknown(error);
  }
  const message = error.rawMessage;
  switch (error.code) {
    case Code.InvalidArgument:
    case Code.DataLoss:
      return invalid(message, error);
    case Code.NotFound:
      return notFound(message, error);
    case Code.Unavailable:
    case Code.Canceled:
      return unavailable(message, error);
    default:
      return systemError(message, error);
  }
}

/** The result of a call; converts its failure by {@link fromHostError}. */
export async function orHostError<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw fromHostError(error);
  }
}
