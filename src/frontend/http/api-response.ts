import { ServerResponse } from "node:http";

/** A response with a hook that runs before its header is written, by whichever method. */
export class ApiResponse extends ServerResponse {
  /**
   * Called before the header is written. An overridden `writeHead` per response would keep a third of responses and
   * their requests alive through V8's young collections, until a full one (docs/performance.md).
   */
  beforeHeader: (() => void) | undefined;

  override writeHead(...args: unknown[]): this {
    this.beforeHeader?.();
    return super.writeHead(...(args as Parameters<ServerResponse["writeHead"]>));
  }
}
