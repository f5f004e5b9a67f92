/** Answers over HTTP/2 whose messages may be small and many. */
import { Http2ServerResponse } from "node:http2";

/** Writes that wait: each takes some hundred bytes besides its own. Several go in a turn of the event loop. */
const mostWaiting = 16;

type Written = (error: Error) => void;

/** A response that has its writer wait for `drain` once 16 writes wait, however small they are. */
export class PacedResponse extends Http2ServerResponse {
  #waiting = 0;

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
