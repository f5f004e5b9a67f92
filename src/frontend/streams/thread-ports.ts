/**
 * Two connected ports in one thread, for a stream that needs no worker. Posted values are passed by reference, not
 * copied.
 */
import { EventEmitter } from "node:events";

/** The members of a `MessagePort` that a stream uses, at its receiving end. */
export interface StreamPort<Message> {
  on(event: "message", listener: (message: Message) => void): unknown;
  once(event: "close", listener: () => void): unknown;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  /** Closes both ports after all posted messages. */
  close(): void;
}

/** Creates two ports: messages posted to one arrive at the other, in order and asynchronously. */
export function portsInThread<One, Other>(): {
  readonly port1: StreamPort<One>;
  readonly port2: StreamPort<Other>;
} {
  const port1 = new PortInThread();
  const port2 = new PortInThread();
  port1.peer = port2;
  port2.peer = port1;
  return { port1, port2 };
}

class PortInThread extends EventEmitter {
  peer: PortInThread | undefined;

  postMessage(message: unknown): void {
    const { peer } = this;
    queueMicrotask(() => peer?.emit("message", message));
  }

  close(): void {
    const ports = [this, this.peer];
    queueMicrotask(() => {
      for (const port of ports) {
        if (port?.peer !== undefined) {
          port.peer = undefined;
          port.emit("close");
        }
      }
    });
  }
}
