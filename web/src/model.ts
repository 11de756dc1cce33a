/** What the worker has opened: a model that generates, or one that makes vectors. */
import { Resident } from "./resident.js";
import type { CallContext } from "./rpc.js";
import type { FacadeExtractor, FacadeModel, Features, FeaturesRequest, GenerateRequest, GenerateResult, Piece } from "./wasm.js";

/** A model that generates. */
export class Model extends Resident<FacadeModel> {
  /**
   * Generates, beside others. Where the device is lost on the way, it goes on after the ids that the page already has, so that the
   * page hears neither a gap nor a repeat.
   */
  async generate(request: GenerateRequest, { signal, emit }: CallContext): Promise<GenerateResult> {
    const given = [...(request.given ?? [])];
    let text = "";
    const onPiece = (piece: Piece) => {
      given.push(piece.id);
      text += piece.text;
      this.progressed();
      emit(piece);
    };
    return this.persist(signal, () => given.length, async (model) => {
      const replayed = given.length > 0 ? { ...request, given: [...given] } : request;
      const result = await model.generate(replayed, onPiece, signal);
      return { ...result, text, ids: given };
    });
  }
}

/** An encoder. */
export class Extractor extends Resident<FacadeExtractor> {
  /** Vectors of texts; all of them are made again where the device is lost. */
  async features(request: FeaturesRequest, { signal }: CallContext): Promise<Features> {
    const features = await this.persist(signal, () => 0, (model) => model.features(request, signal));
    this.progressed();
    return features;
  }
}
