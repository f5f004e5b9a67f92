import { WebSocket } from "ws";

/**
 * An agent's connection. It is closed when its client leaves, by a frame that the agent tells from a cut, however the stream
 * over it ends: `createWebSocketStream` terminates what its user destroys.
 */
export class AgentSocket extends WebSocket {
  #hasClient = false;

  /** Somebody uses it from now on. */
  use(): void {
    this.#hasClient = true;
  }

  override terminate(): void {
    if (this.#hasClient) {
      this.removeAllListeners("message"); // The stream would pause for them, and the agent's answer would not be read.
      this.close();
      this.resume();
    } else {
      super.terminate();
    }
  }

  /** Drops it, as its agent says nothing. */
  cut(): void {
    super.terminate();
  }
}
