import { ServerResponse } from "node:http";

/** A response that tells when its header is about to be written, by whichever method. */
export class ApiResponse extends ServerResponse {
  /**
   * Called then. Not a `writeHead` that each response is given: of those V8's young collections found a third still in
   * use, with their requests, and left them to a collection of everything (docs/performance.md).
   */
  beforeHeader: (() => void) | undefined;

  override writeHead(...args: unknown[]): this {
    this.beforeHeader?.();
    return super.writeHead(...(args as Parameters<ServerResponse["writeHead"]>));
  }
}
