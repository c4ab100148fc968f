// A conversation aloud: sound and pictures by WebRTC, messages by RTVI over its data channel. Nothing is drawn here.

import { Problem, post } from "./api.js";

const NOT_INSTALLED =
  "Talking aloud is not installed on this server. Whoever runs it can add it: pip install 'emox[embedded,voice]'.";
const GATHERING_MS = 1500;
const CAMERA = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 10 }, facingMode: "user" };

/**
 * Events: "state" with "connecting", "open" or "ended"; "message" with an RTVI message. Use once.
 */
export class Call extends EventTarget {
  #peer = null;
  #channel = null;
  #microphone = null;
  #camera = null;
  #pictures = null;
  #over = false;

  /**
   * @param thread the conversation
   * @param consent modalities that may be read, a part of what the person agreed to
   * @param output the audio element that plays replies
   */
  constructor({ thread, consent, output }) {
    super();
    this.thread = thread;
    this.consent = consent;
    this.output = output;
  }

  async start() {
    this.#tell("state", "connecting");
    try {
      this.#microphone = await captured(
        { audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } },
        "microphone",
      );
      if (this.#over) return this.end();
      const peer = (this.#peer = new RTCPeerConnection());
      peer.addTransceiver(this.#microphone.getAudioTracks()[0], { direction: "sendrecv", streams: [this.#microphone] });
      this.#pictures = peer.addTransceiver("video", { direction: "sendrecv" });
      peer.addEventListener("track", ({ track }) => {
        if (track.kind !== "audio") return;
        this.output.srcObject = new MediaStream([track]);
        this.output.play().catch(() => {});
      });
      peer.addEventListener("connectionstatechange", () => {
        if (["failed", "closed"].includes(peer.connectionState)) this.end();
      });
      this.#channel = peer.createDataChannel("rtvi");
      this.#channel.addEventListener("open", () => {
        this.#send({ type: "signalling", message: { type: "trackStatus", receiver_index: 1, enabled: false } });
        this.#rtvi("client-ready", { version: "1.0.0", about: { library: "emox" } });
        this.#tell("state", "open");
      });
      this.#channel.addEventListener("message", ({ data }) => this.#receive(data));
      this.#channel.addEventListener("close", () => this.end());
      await peer.setLocalDescription(await peer.createOffer());
      await gathered(peer);
      const { sdp, type } = peer.localDescription;
      const answer = await post("offer", { sdp, type, request_data: { thread: this.thread, consent: this.consent } });
      if (!this.#over) await peer.setRemoteDescription({ sdp: answer.sdp, type: answer.type });
    } catch (error) {
      this.end();
      throw [404, 405].includes(error.status) ? new Problem(error.status, NOT_INSTALLED) : error;
    }
    return undefined;
  }

  /** Whether the camera may be looked at in this conversation; it cannot be agreed to after it began. */
  get maySee() {
    return this.consent.includes("face");
  }

  /** Show the camera's pictures to the agent, or no longer; resolves to the stream that is shown. */
  async see(on) {
    if (on && !this.#camera) {
      this.#camera = await captured({ video: CAMERA }, "camera");
      await this.#pictures.sender.replaceTrack(this.#camera.getVideoTracks()[0]);
    } else if (!on && this.#camera) {
      await this.#pictures.sender.replaceTrack(null);
      stop(this.#camera);
      this.#camera = null;
    }
    this.#send({ type: "signalling", message: { type: "trackStatus", receiver_index: 1, enabled: on } });
    return this.#camera;
  }

  mute(on) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !on;
  }

  /** Say something by typing it, in the middle of the conversation. */
  type(words) {
    this.#rtvi("send-text", { content: words, options: { run_immediately: true, audio_response: true } });
  }

  end() {
    if (this.#over) return;
    this.#over = true;
    stop(this.#microphone);
    stop(this.#camera);
    this.#peer?.close();
    this.output.srcObject = null;
    this.#tell("state", "ended");
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // no message of RTVI
    }
    if (message.label === "rtvi-ai") this.#tell("message", message);
    else if (message.type === "signalling" && message.message?.type === "peerLeft") this.end();
  }

  #rtvi(type, data) {
    this.#send({ label: "rtvi-ai", type, id: crypto.randomUUID(), data });
  }

  #send(message) {
    if (this.#channel?.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

async function captured(wanted, device) {
  if (!navigator.mediaDevices)
    throw new Problem(0, `The browser gives a page its ${device} only over HTTPS, or on this machine.`);
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    const why =
      error.name === "NotFoundError"
        ? `I found no ${device}.`
        : `The ${device} is not allowed here. The browser's address bar lets you allow it.`;
    throw new Problem(0, why);
  }
}

const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

/** Once it is known where this browser can be reached. */
function gathered(peer) {
  if (peer.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    setTimeout(resolve, GATHERING_MS);
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && resolve());
  });
}
