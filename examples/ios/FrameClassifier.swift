import AVFoundation
import Accelerate
import TensorFlowLite

/// Classifies camera frames with NAME.tflite and NAME.json, which stand in the app's bundle.
final class FrameClassifier: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    private struct Description: Decodable { let labels: [String] }

    private let interpreter: Interpreter
    private let labels: [String]
    private let height, width: Int
    private let onResult: (_ label: String, _ probability: Float) -> Void

    init(name: String, onResult: @escaping (_ label: String, _ probability: Float) -> Void) throws {
        let files = ["tflite", "json"].compactMap { Bundle.main.url(forResource: name, withExtension: $0) }
        guard files.count == 2 else { throw CocoaError(.fileNoSuchFile) }
        var options = Interpreter.Options()
        options.isXNNPackEnabled = true  // false by default
        interpreter = try Interpreter(modelPath: files[0].path, options: options)
        try interpreter.allocateTensors()
        let shape = try interpreter.input(at: 0).shape.dimensions  // 1, height, width, 3
        (height, width) = (shape[1], shape[2])
        labels = try JSONDecoder().decode(Description.self, from: Data(contentsOf: files[1])).labels
        self.onResult = onResult
    }

    func captureOutput(_: AVCaptureOutput, didOutput sample: CMSampleBuffer, from _: AVCaptureConnection) {
        guard let frame = CMSampleBufferGetImageBuffer(sample) else { return }
        do {
            try interpreter.copy(rgb(frame), toInputAt: 0)
            try interpreter.invoke()
            let probs = try interpreter.output(at: 0).data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            if let best = probs.indices.max(by: { probs[$0] < probs[$1] }) { onResult(labels[best], probs[best]) }
        } catch {
            print("\(error)")
        }
    }

    /// The frame's centre square, scaled to the input's size, as RGB bytes.
    private func rgb(_ frame: CVPixelBuffer) -> Data {
        CVPixelBufferLockBaseAddress(frame, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(frame, .readOnly) }
        let (rows, columns) = (CVPixelBufferGetHeight(frame), CVPixelBufferGetWidth(frame))
        let (side, stride) = (min(rows, columns), CVPixelBufferGetBytesPerRow(frame))
        let corner = CVPixelBufferGetBaseAddress(frame)! + (rows - side) / 2 * stride + (columns - side) / 2 * 4
        var square = vImage_Buffer(data: corner, height: vImagePixelCount(side), width: vImagePixelCount(side), rowBytes: stride)
        var (bgra, rgb) = (Data(count: height * width * 4), Data(count: height * width * 3))
        bgra.withUnsafeMutableBytes { small in
            rgb.withUnsafeMutableBytes { bytes in
                let (h, w) = (vImagePixelCount(height), vImagePixelCount(width))
                var scaled = vImage_Buffer(data: small.baseAddress!, height: h, width: w, rowBytes: width * 4)
                var image = vImage_Buffer(data: bytes.baseAddress!, height: h, width: w, rowBytes: width * 3)
                vImageScale_ARGB8888(&square, &scaled, nil, vImage_Flags(kvImageHighQualityResampling))
                vImageConvert_BGRA8888toRGB888(&scaled, &image, vImage_Flags(kvImageNoFlags))
            }
        }
        return rgb
    }
}
