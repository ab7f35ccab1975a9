package com.example.classifier

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Matrix
import android.graphics.Paint
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONObject
import org.tensorflow.lite.Interpreter

/** Classifies frames of CameraX with NAME.tflite and NAME.json, which stand in the app's assets. */
class FrameClassifier(context: Context, name: String, private val onResult: (label: String, probability: Float) -> Unit) :
    ImageAnalysis.Analyzer {
    private val interpreter = Interpreter(direct(context.assets.open("$name.tflite").use { it.readBytes() }))
    private val json = context.assets.open("$name.json").use { JSONObject(it.reader().readText()) }
    private val labels = json.getJSONArray("labels").let { names -> List(names.length(), names::getString) }
    private val shape = interpreter.getInputTensor(0).shape() // 1, height, width, 3
    private val square = Bitmap.createBitmap(shape[2], shape[1], Bitmap.Config.ARGB_8888)
    private val pixels = IntArray(shape[1] * shape[2])
    private val image = direct(ByteArray(pixels.size * 3))
    private val probs = arrayOf(FloatArray(labels.size))

    override fun analyze(frame: ImageProxy) {
        frame.use { crop(it.toBitmap(), it.imageInfo.rotationDegrees.toFloat()) }
        square.getPixels(pixels, 0, square.width, 0, 0, square.width, square.height)
        image.rewind()
        for (argb in pixels) image.put((argb shr 16).toByte()).put((argb shr 8).toByte()).put(argb.toByte())
        interpreter.runSignature(mapOf("image" to image), mapOf("probs" to probs))
        val best = labels.indices.maxBy { probs[0][it] }
        onResult(labels[best], probs[0][best])
    }

    /** Draws the frame upright onto `square`: its centre, as large as covers it. */
    private fun crop(frame: Bitmap, degrees: Float) {
        val scale = maxOf(square.width, square.height).toFloat() / minOf(frame.width, frame.height)
        val place = Matrix()
        place.postTranslate(-frame.width / 2f, -frame.height / 2f)
        place.postRotate(degrees)
        place.postScale(scale, scale)
        place.postTranslate(square.width / 2f, square.height / 2f)
        Canvas(square).drawBitmap(frame, place, Paint(Paint.FILTER_BITMAP_FLAG))
    }

    private fun direct(bytes: ByteArray): ByteBuffer =
        ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
}
