/** Answers over HTTP/2 whose messages may be small and many. */
import { Http2ServerResponse, type OutgoingHttpHeaders } from "node:http2";

/** Writes that wait: each takes some hundred bytes besides its own. Several go in a turn of the event loop. */
const mostWaiting = 16;

/** Types of unary answers in Connect's form. */
const unaryTypes: ReadonlySet<unknown> = new Set(["application/proto", "application/json"]);

type Written = (error: Error) => void;

/** A response that has its writer wait for `drain` once 16 writes wait, however small they are. */
export class PacedResponse extends Http2ServerResponse {
  #waiting = 0;

  /** A unary answer in Connect's form has no trailers: its last frame ends it. */
  override writeHead(status: number, headers: OutgoingHttpHeaders | readonly string[] | string = {}): this {
    const fields = headers as OutgoingHttpHeaders;
    if (!unaryTypes.has(fields["content-type"]) || this.stream.destroyed) {
      return super.writeHead(status, fields);
    }
    this.stream.respond({ ...fields, ":status": status });
    return this;
  }

  override write(
    chunk: string | Uint8Array,
    encoding: BufferEncoding | Written = "utf8",
    written: Written = () => {},
  ): boolean {
    if (typeof encoding === "function") {
      return this.write(chunk, "utf8", encoding);
    }
    this.#waiting += 1;
    const hasRoom = super.write(chunk, encoding, (error) => {
      this.#waiting -= 1;
      written(error);
      if (this.#waiting === 0) {
        this.emit("drain");
      }
    });
    return hasRoom && this.#waiting < mostWaiting;
  }
}
