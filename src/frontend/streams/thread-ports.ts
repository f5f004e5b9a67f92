/** Two ports in one thread, for a stream that is not worth a worker. What is posted is taken over, not copied. */
import { EventEmitter } from "node:events";

/** The members of a `MessagePort` that a stream uses, at the end where such messages come. */
export interface StreamPort<Message> {
  on(event: "message", listener: (message: Message) => void): unknown;
  once(event: "close", listener: () => void): unknown;
  postMessage(message: unknown, transfer: ArrayBuffer[]): void;
  /** Ends both ports, behind what was posted. */
  close(): void;
}

/** Makes two ports: what is posted to one arrives at the other, in order, behind what runs now. */
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
