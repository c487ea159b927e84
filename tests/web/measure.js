// What a page sees and hears of the test picture: frame numbers read off decoded frames (hub/strip.h), and the strongest frequency of the sound.
"use strict";

const BLOCKS = 32, LINES = 16;

function crc8(number) {
  let crc = 0xff;
  for (const shift of [16, 8, 0]) {
    crc ^= (number >> shift) & 0xff;
    for (let bit = 0; bit < 8; bit++) crc = ((crc << 1) ^ (crc & 0x80 ? 0x07 : 0)) & 0xff;
  }
  return crc;
}

// The number on the luma of a picture's first lines; null: none, or a damaged one.
function stripRead(luma, stride, width) {
  let bits = [];
  for (let block = 0; block < BLOCKS; block++) {
    const from = Math.floor((block * width) / BLOCKS), to = Math.floor(((block + 1) * width) / BLOCKS), margin = Math.floor((to - from) / 4);
    let sum = 0, n = 0;
    for (let y = LINES / 4; y < LINES - LINES / 4; y++)
      for (let x = from + margin; x < to - margin; x++, n++) sum += luma[y * stride + x];
    const shade = sum / n;
    if (shade > 85 && shade < 165) return null;
    bits.push(shade >= 165 ? 1 : 0);
  }
  const number = bits.slice(0, 24).reduce((v, b) => v * 2 + b, 0), check = bits.slice(24).reduce((v, b) => v * 2 + b, 0);
  return crc8(number) === check ? number : null;
}

class Seen {
  frames = 0; // decoded pictures
  damaged = 0; // of them without a number
  numbers = []; // in the order in which they came
  waiters = [];

  // Every decoded picture of a track, shown or not.
  async pictures(track) {
    // The page may be held up for ten seconds before a picture is dropped that was decoded.
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 250 }).readable.getReader();
    for (;;) {
      const { value: frame, done } = await reader.read();
      if (done) return;
      await this.picture(frame);
      frame.close();
    }
  }

  async picture(frame) {
    const width = frame.visibleRect.width, rect = { x: frame.visibleRect.x, y: frame.visibleRect.y, width, height: LINES };
    const luma = new Uint8Array(frame.allocationSize({ rect }));
    const [plane] = await frame.copyTo(luma, { rect });
    const number = stripRead(luma.subarray(plane.offset), plane.stride, width);
    this.frames++;
    if (number === null) this.damaged++;
    else this.numbers.push(number);
    this.waiters = this.waiters.filter((w) => !w());
  }

  sound(stream) {
    this.audio = new AudioContext();
    this.analyser = this.audio.createAnalyser();
    this.analyser.fftSize = 8192;
    this.analyser.smoothingTimeConstant = 0;
    this.audio.createMediaStreamSource(stream).connect(this.analyser);
  }

  // { hz, level }: the strongest frequency of the last sixth of a second, and how loud it is (root mean square).
  heard() {
    const bins = new Float32Array(this.analyser.frequencyBinCount), samples = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatFrequencyData(bins);
    this.analyser.getFloatTimeDomainData(samples);
    const peak = bins.indexOf(Math.max(...bins));
    return { hz: (peak * this.audio.sampleRate) / this.analyser.fftSize, level: Math.sqrt(samples.reduce((s, x) => s + x * x, 0) / samples.length) };
  }

  // Resolves when so many more pictures have been decoded.
  more(frames) {
    const until = this.frames + frames;
    return new Promise((resolve) => this.waiters.push(() => this.frames >= until && (resolve(), true)));
  }

  // Resolves when no picture has come for so many milliseconds.
  silence(ms) {
    return new Promise((resolve) => {
      let timer;
      const again = () => {
        clearTimeout(timer);
        timer = setTimeout(resolve, ms);
        return false;
      };
      again();
      this.waiters.push(again);
    });
  }

  // From here on.
  again() {
    this.frames = this.damaged = 0;
    this.numbers = [];
  }

  summary() {
    let missing = 0, backwards = 0;
    for (let i = 1; i < this.numbers.length; i++) {
      const step = this.numbers[i] - this.numbers[i - 1];
      if (step > 0) missing += step - 1;
      else backwards++;
    }
    return { frames: this.frames, damaged: this.damaged, missing, backwards, first: this.numbers[0], last: this.numbers.at(-1) };
  }
}

// Of getStats: what was negotiated and what came.
async function negotiated(peer) {
  const all = [...(await peer.getStats()).values()], of = (type, kind) => all.filter((s) => s.type === type && (!kind || s.kind === kind));
  const transport = of("transport")[0] ?? {}, inbound = (kind) => of("inbound-rtp", kind)[0] ?? {}, codec = (s) => all.find((c) => c.id === s.codecId)?.mimeType;
  const video = inbound("video"), audio = inbound("audio");
  return {
    cipher: transport.srtpCipher?.replace(/^SRTP_/, ""), dtls: transport.dtlsState, ufrag: transport.iceLocalUsernameFragment, dtls_role: transport.dtlsRole, tls: transport.tlsVersion,
    video: { codec: codec(video), packets: video.packetsReceived, lost: video.packetsLost, decoded: video.framesDecoded, keys: video.keyFramesDecoded, nacks: video.nackCount, plis: video.pliCount,
      rtx: video.retransmittedPacketsReceived, freezes: video.freezeCount, frozen_s: video.totalFreezesDuration },
    audio: { codec: codec(audio), packets: audio.packetsReceived, lost: audio.packetsLost, concealed: audio.concealedSamples, samples: audio.totalSamplesReceived },
  };
}
