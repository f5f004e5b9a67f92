import type { Transport } from "@connectrpc/connect";

import { actingContainerHeader } from "../../common/acting-container.ts";

/**
 * A transport that marks every call as made on behalf of a client at a container's Docker socket: the backend allows
 * what that client may do.
 */
export function actingTransport(transport: Transport, containerId: string): Transport {
  const acting = (header: HeadersInit | undefined): Headers => {
    const all = new Headers(header);
    all.set(actingContainerHeader, containerId);
    return all;
  };
  return {
    unary: (method, signal, timeoutMs, header, input, contextValues) =>
      transport.unary(method, signal, timeoutMs, acting(header), input, contextValues),
    stream: (method, signal, timeoutMs, header, input, contextValues) =>
      transport.stream(method, signal, timeoutMs, acting(header), input, contextValues),
  };
}
