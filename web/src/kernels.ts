/** Which kernels a GPU runs right and fastest: measured while nobody asks for anything, and kept between visits. In the worker. */
import type { KernelReport } from "./wasm.js";

/** The origin's cache that holds the reports, and the address in it, a host that nobody has (RFC 2606). */
const CACHE = "webweft-kernels";
const ADDRESS = "https://webweft.invalid/kernels.json";
/** Reports that are kept: a machine has few adapters. */
const MOST = 8;

/** What this visit or earlier ones found, of any adapter. Where the page may keep nothing, nothing is kept, and nobody is told. */
export class KernelReports {
  #known: Promise<KernelReport[]> | undefined;

  /** The newest first. */
  all(): Promise<KernelReport[]> {
    return (this.#known ??= read());
  }

  /** As `open` takes them. */
  async told(): Promise<string[]> {
    return (await this.all()).map((report) => JSON.stringify(report));
  }

  /** Puts `report` in the place of another one about the same adapter. */
  async keep(report: KernelReport): Promise<void> {
    const others = (await this.all()).filter(({ adapter }) => adapter !== report.adapter);
    const all = [report, ...others].slice(0, MOST);
    this.#known = Promise.resolve(all);
    try {
      await (await caches.open(CACHE)).put(ADDRESS, Response.json(all));
    } catch {
      // measured again at the next visit
    }
  }

  /** Keeps `report`, which was not measured, unless the same is known, measured or not. */
  async learn(report: KernelReport): Promise<void> {
    const tested = ({ adapter, driver, version, verdicts }: KernelReport) => JSON.stringify([adapter, driver, version, verdicts]);
    if (!(await this.all()).some((other) => tested(other) === tested(report))) await this.keep(report);
  }

  async forget(): Promise<void> {
    this.#known = undefined;
    try {
      await caches.delete(CACHE);
    } catch {
      // where nothing may be kept, nothing is
    }
  }
}

async function read(): Promise<KernelReport[]> {
  try {
    const kept = await (await caches.open(CACHE)).match(ADDRESS);
    const reports: unknown = await kept?.json();
    return Array.isArray(reports) ? reports.filter(isReport) : [];
  } catch {
    return [];
  }
}

/** Whether it says what it is about. The wasm leaves out what it cannot read. */
function isReport(value: unknown): value is KernelReport {
  const { adapter, driver, version } = (value ?? {}) as Partial<KernelReport>;
  return [adapter, driver, version].every((text) => typeof text === "string");
}

/** How long nothing must have been asked for, in ms. */
export const IDLE = 1000;

/** Does `work` once, while nothing else is done. What is asked for meanwhile ends it, and it begins anew after that. */
export class IdleWork {
  readonly #work: (signal: AbortSignal) => Promise<void>;
  readonly #idle: number;
  #others = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #working: AbortController | undefined;
  #wanted = false;

  constructor(work: (signal: AbortSignal) => Promise<void>, idle = IDLE) {
    this.#work = work;
    this.#idle = idle;
  }

  /** It is to be done from now on, or not any more. */
  want(wanted: boolean): void {
    this.#wanted = wanted;
    this.#stop();
    this.#wait();
  }

  /** Does something that it must not disturb. */
  async beside<T>(task: () => T | Promise<T>): Promise<T> {
    this.#others += 1;
    this.#stop();
    try {
      return await task();
    } finally {
      this.#others -= 1;
      this.#wait();
    }
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#working?.abort();
  }

  #wait(): void {
    clearTimeout(this.#timer);
    if (this.#wanted && this.#others === 0) this.#timer = setTimeout(() => void this.#begin(), this.#idle);
  }

  async #begin(): Promise<void> {
    const { signal } = (this.#working = new AbortController());
    try {
      await this.#work(signal);
    } catch {
      // whatever it is, what there was before is right
    }
    if (signal.aborted) return;
    this.#wanted = false;
    this.#working = undefined;
  }
}
